"""Sizes batches: by what their rows are padded to, and by the scores that ranking them takes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RankingLimits:
    """The most that is ranked at once, so that memory grows neither with the catalogue nor with one long
    history."""

    scores: int
    """Scores: histories x items of the catalogue."""
    rows: int = sys.maxsize
    """Histories."""
    cells: int = sys.maxsize
    """Places of a padded batch of histories."""

    def rows_for(self, num_items: int) -> int:
        """Histories at once, for a catalogue of `num_items`; at least one."""
        return max(1, min(self.rows, self.scores // num_items))


EVALUATION_LIMITS = RankingLimits(scores=4 << 20, rows=512, cells=4 << 20)
DEVICE_EVALUATION_LIMITS = RankingLimits(scores=256 << 20, rows=16 << 10, cells=4 << 20)
"""On a GPU, where each block costs a wait and many small kernels; its scores, 1 GiB, never leave it."""
LIST_LIMITS = RankingLimits(scores=64 << 20, rows=256, cells=4 << 20)
"""Of `recommend`. Shards keep whole blocks of `rows` users."""
SERVING_LIMITS = RankingLimits(scores=16 << 20)
"""Of one batch of requests, which the server's `max_batch` bounds too."""


def few_lengths(count: int) -> int:
    """Rounds up to the next of eight lengths between each power of two and the next, at least 8."""
    step = max(8, (1 << (count - 1).bit_length()) >> 4)
    return -(-count // step) * step


def padded_batches(lengths: Sequence[int], *, rows: int, cells: int) -> list[list[int]]:
    """Groups row numbers into batches of similar length, longest first: memory runs out early or never.

    A batch has at most `rows` rows, and at most `cells` places once its rows are padded to its longest; a
    longer row is a batch of its own. Rows of equal length keep their order, so that equal rows give equal
    batches.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches = []
    first = 0
    while first < len(order):
        fit = max(1, min(rows, cells // max(1, lengths[order[first]])))
        batches.append(order[first : first + fit])
        first += fit
    return batches


def split_padded(rows: Tensor, lengths: Tensor, cells: int) -> tuple[Tensor, ...]:
    """Splits a batch, in order, into parts of at most `cells` places when padded to its longest row.

    Shapes: rows [B] row numbers, lengths [R] of all rows.
    """
    longest = max(1, int(lengths[rows].max())) if len(rows) else 1
    return rows.split(max(1, cells // longest)) if len(rows) else ()
