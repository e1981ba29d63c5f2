"""What the parts of `benchmarks.gpu` have in common: device, data, times."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.result import Measurement, Result

if TYPE_CHECKING:
    from seqloom.data.store import Dataset

SEED = 42


class UnavailableError(Exception):
    """What a part needs is not here."""


@dataclass(frozen=True)
class Bench:
    """Where and on what the parts measure."""

    device: torch.device
    folder: Path
    quick: bool
    data: Path | None = None
    encoder: Path | None = None
    llm: Path | None = None

    @cached_property
    def dataset(self) -> Dataset:
        """The given data set, or a small one."""
        from seqloom.data.store import Dataset

        return synthetic(self.folder) if self.data is None else Dataset.load(self.data)

    @property
    def on_cuda(self) -> bool:
        return self.device.type == "cuda"

    def autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.on_cuda)

    def wait(self) -> None:
        if self.on_cuda:
            torch.cuda.synchronize(self.device)

    def times(self, work: Callable[[], object], repeats: int = 5) -> list[float]:
        """Seconds of `repeats` calls after one to warm up."""
        taken = []
        for _ in range(repeats + 1):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            taken.append(time.perf_counter() - started)
        return taken[1:]

    def peak_mib(self, work: Callable[[], object]) -> float:
        """MiB that a call allocates beyond what there is before it."""
        self.wait()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        work()
        self.wait()
        return (torch.cuda.max_memory_allocated(self.device) - before) / 2**20


def result(title: str, unit: str, values: list[float], goal: float | None, **notes: Any) -> Result:
    yardstick = None if goal is None else Measurement("goal", unit, [goal])
    shown = {name.replace("_", " "): str(value) for name, value in notes.items()}
    return Result(title, Measurement("seqloom", unit, values), yardstick, "no goal", shown)


def in_ms(seconds: list[float]) -> list[float]:
    return [1000 * each for each in seconds]


def synthetic(folder: Path, users: int = 60, items: int = 50) -> Dataset:
    """A small data set of random histories, written without polars."""
    import pyarrow as pa

    from seqloom.data.store import Events, write_dataset

    draw = torch.Generator().manual_seed(SEED)
    lengths = torch.randint(4, 12, (users,), generator=draw)
    ends = lengths.cumsum(0)
    numbers = torch.randint(1, items + 1, (int(ends[-1]),), generator=draw).int()
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), ends])
    ids = [f"i{number}" for number in range(1, items + 1)]
    things = ("red soap", "blue brush", "small comb", "large towel", "soft cream")
    titles = [f"{things[number % 5]} {number}" for number in range(items)]
    return write_dataset(
        folder / "data",
        items=pa.table({"item_id": ids, "title": titles}),
        users=pa.table({"user_id": [f"u{number}" for number in range(users)]}),
        events=Events(numbers, offsets, train_end=ends - 2, valid=ends - 2, test=ends - 1),
        sources=[],
        options={"split": "leave-one-out"},
        statistics={"items": items, "users": users, "events": len(numbers)},
        warnings=[],
    )
