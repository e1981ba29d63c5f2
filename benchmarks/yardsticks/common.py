"""What the yardsticks' scripts share. They run without seqloom, so this needs torch alone."""

from __future__ import annotations

import argparse
import json
import resource
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

WIDTH, BLOCKS, HEADS, MAX_LEN, DROPOUT, RATE, SEED = 64, 2, 2, 50, 0.5, 1e-3, 42
RANKED_AT_ONCE = 512
RANKINGS = 3


def arguments() -> argparse.Namespace:
    """The command line of every script."""
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--data", type=Path, required=True, help="a user a line: USER ITEM ITEM ..."
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--steps", type=int, default=0, help="of one epoch; 0: whole epochs")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--until", type=float, default=1.0, help="stop at this validation NDCG@10")
    parser.add_argument("--minutes", type=float, default=25.0, help="start no epoch after these")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    return options


def read(path: Path) -> list[list[int]]:
    """Item numbers from 0 of every user, oldest first; the last two are held out."""
    with path.open(encoding="utf-8") as lines:
        return [[int(item) - 1 for item in line.split()[1:]] for line in lines]


def ndcg(lists: Tensor, targets: Tensor) -> float:
    """Mean NDCG@10 of one target each. Shapes: lists [U, 10], targets [U]."""
    hits = lists == targets[:, None]
    return float((hits / torch.log2(torch.arange(10) + 2.0)).sum(1).mean())


class Recorder:
    """Collects what is measured and writes it at the end."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.step_seconds: list[float] = []
        """Of each training step with its batch, the first left out, where only some are taken."""
        self.steps_per_epoch = 0
        self.epoch_seconds: list[float] = []
        self.rank_seconds: list[float] = []
        self.ndcg: list[float] = []
        """After each epoch, on the validation part with seen items masked."""
        self.training_mb = 0.0
        self._began = time.perf_counter()
        self._last: float | None = None

    def stepped(self) -> None:
        """Call after every step of a partial epoch."""
        now = time.perf_counter()
        if self._last is not None:
            self.step_seconds.append(now - self._last)
        self._last = now

    def trained(self, seconds: float | None = None) -> None:
        """Call after training, or after each whole epoch with its seconds."""
        if seconds is not None:
            self.epoch_seconds.append(seconds)
        self.training_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def enough(self, ndcg_at_10: float) -> bool:
        """Note an epoch's accuracy; whether training ends."""
        self.ndcg.append(ndcg_at_10)
        spent = time.perf_counter() - self._began
        return ndcg_at_10 >= self.options.until or spent > 60 * self.options.minutes

    def ranked(self, rank: Any) -> None:
        """Time `rank()`, the library's own ranking of all users."""
        for _ in range(RANKINGS):
            started = time.perf_counter()
            rank()
            self.rank_seconds.append(time.perf_counter() - started)

    def write(self) -> None:
        """The JSON file.

        Raises:
            RuntimeError: no training was seen.
        """
        if not self.step_seconds and not self.epoch_seconds:
            raise RuntimeError("no step of the training was seen")
        values = {key: value for key, value in vars(self).items() if not key.startswith("_")}
        values["options"] = {key: str(value) for key, value in vars(self.options).items()}
        values["threads"] = torch.get_num_threads()
        self.options.out.write_text(json.dumps(values), encoding="utf-8")


class Part:
    """The first `steps` batches of a loader, each timed."""

    def __init__(self, loader: Iterable[Any], steps: int, recorder: Recorder) -> None:
        self._loader, self._steps, self._recorder = loader, steps, recorder

    def __iter__(self) -> Iterator[Any]:
        for number, batch in enumerate(self._loader):
            if number == self._steps:
                return
            yield batch
            self._recorder.stepped()

    def __len__(self) -> int:
        return self._steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
