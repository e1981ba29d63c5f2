"""Writes reported.json: what RecBole reports for lists that it made itself.

    pip install --no-deps --target RECBOLE recbole==1.2.1 colorlog colorama texttable thop
    PYTHONPATH=RECBOLE python tests/evaluation/recbole/make.py

RecBole's own collector sorts the scores and its evaluator computes the metrics, as its trainer asks them to;
only the scores, histories and targets are made here. No code of seqloom takes part.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

np.float = float  # type: ignore[attr-defined]  # RecBole 1.2.1 uses np.float, which numpy removed

from recbole.evaluator import Collector, Evaluator  # noqa: E402

USERS, ITEMS = 60, 40
TOPK = [1, 5, 10, 20, 30]
"""Masked lists have at least 31 items; the longest list is the depth of MRR."""
DIGITS = 12
"""RecBole rounds its metrics, by default to 4 digits."""


class TrainingData:
    """The part of the training data that the collector reads: the number of items, padding included."""

    def __init__(self, counts: dict[int, int]) -> None:
        self.dataset = self
        self.item_counter = counts

    def num(self, field: str) -> int:
        """Items and the padding."""
        return ITEMS + 1


def report(
    scores: torch.Tensor, targets: torch.Tensor, counts: dict[int, int], digits: int
) -> dict[str, float]:
    """Returns RecBole's metrics. Shapes: scores [R, N + 1] float with column 0 for padding, targets [R]."""
    config = {
        "metrics": ["Hit", "Recall", "NDCG", "MRR", "ItemCoverage", "AveragePopularity"],
        "topk": TOPK,
        "metric_decimal_place": digits,
        "eval_args": {"mode": "full"},
        "device": "cpu",
        "ITEM_ID_FIELD": "item_id",
    }
    collector = Collector(config)
    collector.data_collect(TrainingData(counts))
    collector.eval_batch_collect(scores, None, torch.arange(len(targets)), targets)
    metrics = Evaluator(config).evaluate(collector.data_struct)
    return {name: float(value) for name, value in metrics.items()}


def main() -> None:
    draw = torch.Generator().manual_seed(7)
    scores = torch.stack([torch.randperm(ITEMS, generator=draw) for _ in range(USERS)])
    targets = torch.randint(1, ITEMS + 1, (USERS,), generator=draw)
    # A system that knows something: most targets score higher than chance has it.
    scores[torch.arange(USERS), targets - 1] += torch.randint(0, ITEMS, (USERS,), generator=draw)
    scores = scores * 100 + torch.arange(ITEMS)  # no two items of a user tie
    histories = []
    for user in range(USERS):
        others = torch.randperm(ITEMS, generator=draw).add(1)
        histories.append(others[others != targets[user]][: 1 + user % 9].tolist())
    counts = torch.randint(1, 50, (ITEMS,), generator=draw).tolist()

    padded = torch.nn.functional.pad(scores.float(), (1, 0), value=-torch.inf)
    masked = padded.clone()
    for user, history in enumerate(histories):
        masked[user, history] = -torch.inf
    popularity = dict(enumerate(counts, start=1))
    made = {
        "recbole": "1.2.1",
        "items": ITEMS,
        "topk": TOPK,
        "scores": scores.tolist(),
        "histories": histories,
        "targets": targets.tolist(),
        "training_counts": counts,
        "masked": report(masked, targets, popularity, DIGITS),
        "unmasked": report(padded, targets, popularity, DIGITS),
        "masked_4_digits": report(masked, targets, popularity, 4),
    }
    file = Path(__file__).with_name("reported.json")
    file.write_text(json.dumps(made, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
