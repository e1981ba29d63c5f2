"""A learned term for items that the history already holds: by how long ago and how often."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqloom.core.cost import FLOAT_BYTES, ComputeCost

BUCKETS = 6
"""Number of buckets of ages: 0, 1-2, 3-6, 7-14, 15-30, and 31 or more."""
STRETCH = 10.0
"""Scale of the parameters, so that Adam's steps move a score as far as those of two vectors do."""


class RepeatTerm(nn.Module):
    """Adds r(u, i) to the score of an item i that the history of u holds; starts at 0.

    r(u, i) = STRETCH x (recency[bucket of the age of the last i] + often x log(number of i)), where age 0 is
    that of the history's last item.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recency = nn.Parameter(torch.zeros(BUCKETS))
        self.often = nn.Parameter(torch.zeros(()))

    def forward(self, items: Tensor, rows: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the rows of the item table that get a term, and the terms; 0 and 0 where there is none.

        Target m follows the first ends[m] places of history rows[m].

        Shapes: items [B, L] numbers, 0 where there is no item, rows [M], ends [M] -> [M, L], [M, L].
        """
        after, count = _occurrences(items)
        places = torch.arange(items.shape[1], device=items.device)
        held, last = items[rows], after[rows] >= ends[:, None]  # [M, L]
        counted = (held > 0) & (places < ends[:, None]) & last
        age = (ends[:, None] - 1 - places).clamp(min=0)
        bucket = (age + 1).float().log2().long().clamp(max=BUCKETS - 1)
        terms = self.recency[bucket] + self.often * count[rows].log()
        return (held - 1).clamp(min=0) * counted, torch.where(counted, terms * STRETCH, 0.0)


def _occurrences(items: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the place of each item's next occurrence in its row, L if none, and its number so far.

    Shapes: [B, L] -> [B, L] int64, [B, L] float32.
    """
    length = items.shape[1]
    same = items[:, :, None] == items[:, None, :]  # [B, L, L]
    places = torch.arange(length, device=items.device)
    after = torch.where(same & (places > places[:, None]), places, length).amin(2)
    count = (same & (places <= places[:, None])).sum(2)
    return after, count.float()


def repeat_cost(rows: int, length: int, targets: float) -> ComputeCost:
    """Counts the work of `RepeatTerm` and of its gradient for M targets in B rows of L places."""
    pairs, terms = rows * length * length, targets * length
    return ComputeCost(
        elements=6 * pairs + 40 * terms, calls=60, held=12 * pairs + 10 * FLOAT_BYTES * terms
    )
