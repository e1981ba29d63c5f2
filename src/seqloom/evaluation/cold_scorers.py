"""Scorers that rank cold items, which have no event in the training part, and baselines for them."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from seqloom.core.protocols import Scorer
from seqloom.data.store import HeldOut
from seqloom.evaluation.metrics import RANK_METRICS, parse_metric


class LastPlaceScorer:
    """Extends a scorer by items that it cannot score: they tie in last place."""

    def __init__(self, scorer: Scorer, more: int) -> None:
        """`more` is the number of added items, M."""
        self.num_items = scorer.num_items + more
        self._scorer, self._more = scorer, more

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Shapes: [B, L], [B] -> [B, N + M]."""
        known = self._scorer.score(items, lengths)
        lowest = known.amin(1, keepdim=True)
        # Below the lowest score of each row, at any magnitude of the scores.
        below = lowest - lowest.abs() - 1.0
        return torch.cat([known, below.expand(-1, self._more)], 1)


class LastItemsScorer:
    """Restricts a scorer to its items from number `first` on, numbered from 1."""

    def __init__(self, scorer: Scorer, first: int) -> None:
        self.num_items = scorer.num_items - first + 1
        self._scorer, self._first = scorer, first

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Shapes: [B, L], [B] -> [B, M]."""
        return self._scorer.score(items, lengths)[:, self._first - 1 :].contiguous()


class TextNeighbours:
    """Text baseline: cosine of an item's text vector and the mean vector of the history's items."""

    def __init__(self, text: Tensor) -> None:
        """`text` [N, E] are the item text vectors."""
        self.num_items = len(text)
        self._rows = F.pad(text, (0, 0, 1, 0))  # row 0 for padding
        self._unit = F.normalize(text, dim=1)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Returns zeros for an empty history. Shapes: [B, L], [B] -> [B, N]."""
        if not items.shape[1]:
            return self._unit.new_zeros(len(items), self.num_items)
        mean = F.embedding_bag(items, self._rows, mode="mean", padding_idx=0)
        return F.normalize(mean, dim=1) @ self._unit.t()


def select_targets(held_out: HeldOut, rows: Tensor, first: int = 1) -> HeldOut:
    """Selects rows of a ranking task and renumbers their targets so that item `first` is 1.

    Shapes: rows [R] bool.
    """
    chosen = held_out.select(torch.nonzero(rows).flatten())
    return replace(chosen, targets=chosen.targets - first + 1)


def random_metrics(competitors: Tensor) -> dict[str, float]:
    """Returns the exact expected metrics of a random order: ranks 1 to C are equally likely.

    Shapes: competitors [R] int64, C of each user, including the target.
    """
    metrics = {}
    ranks = torch.arange(1, int(competitors.max()) + 1, dtype=torch.float64)
    for name in RANK_METRICS:
        kind, cutoff = parse_metric(name)
        if kind == "hr":
            gain = torch.ones_like(ranks)
        else:
            gain = 1.0 / (ranks if kind == "mrr" else torch.log2(1.0 + ranks))
        if cutoff is not None:
            gain[cutoff:] = 0.0
        # The mean gain over ranks 1..C is a prefix sum divided by C.
        metrics[name] = float((gain.cumsum(0)[competitors - 1] / competitors).mean())
    return metrics
