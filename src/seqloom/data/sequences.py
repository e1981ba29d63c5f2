"""Sequences in one flat array, with vectorised slicing for training and ranking.

Legend of shapes used throughout the package: B batch, L history, D width, H heads, N catalogue,
C candidates, E text width, S similar users, T tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PaddedBatch:
    """Histories of different lengths, oldest item first, padded with 0 on the right."""

    items: Tensor
    """[B, L] int64, item numbers 1..N, 0 where padded."""
    lengths: Tensor
    """[B] int64, the number of real items in each row."""

    def to(self, device: torch.device) -> PaddedBatch:
        """Moves the batch to `device`."""
        return PaddedBatch(
            self.items.to(device, non_blocking=True), self.lengths.to(device, non_blocking=True)
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def share(self, rows: slice) -> PaddedBatch:
        """Returns a slice of the rows, with no more padding than they need."""
        lengths = self.lengths[rows]
        width = max(1, int(lengths.max()) if len(lengths) else 0)
        return PaddedBatch(self.items[rows, :width], lengths)

    @property
    def mask(self) -> Tensor:
        """[B, L] bool, true where an item is real."""
        positions = torch.arange(self.items.shape[1], device=self.items.device)
        return positions < self.lengths[:, None]

    def recency(self, decay: float) -> Tensor:
        """Returns weights [B, L]: 1 for the last item, times `decay` for each step back, 0 where padded."""
        positions = torch.arange(self.items.shape[1], device=self.items.device)
        age = (self.lengths[:, None] - 1 - positions).clamp(min=0)
        return torch.where(self.mask, decay**age, 0.0)


@dataclass(frozen=True)
class Sequences:
    """Sequences as slices: row r is `items[starts[r]:ends[r]]`, oldest item first. Copies no items.

    Shapes: items [events] int32 or int64, starts and ends [rows] int64.
    """

    items: Tensor
    starts: Tensor
    ends: Tensor

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int]]) -> Sequences:
        """Builds sequences from lists of item numbers (for tests and for histories from outside)."""
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        ends = lengths.cumsum(0)
        items = torch.tensor([item for row in rows for item in row], dtype=torch.int32)
        return cls(items, ends - lengths, ends)

    @classmethod
    def shaped(cls, lengths: Tensor) -> Sequences:
        """Builds rows of these lengths without items, to compute the sizes of slices. Shapes: [rows]."""
        ends = lengths.cumsum(0)
        return cls(torch.empty(0, dtype=torch.int32), ends - lengths, ends)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> Tensor:
        """[rows] int64, the number of items in each row."""
        return self.ends - self.starts

    def select(self, rows: Tensor) -> Sequences:
        """Selects rows, in the given order."""
        return Sequences(self.items, self.starts[rows], self.ends[rows])

    def tail(self, max_len: int) -> Sequences:
        """Truncates every row to its last `max_len` items."""
        return Sequences(self.items, torch.maximum(self.starts, self.ends - max_len), self.ends)

    def flat(self) -> tuple[Tensor, Tensor]:
        """Concatenates all rows and returns (row number [M] int64, item [M] int64)."""
        lengths = self.lengths
        rows = torch.repeat_interleave(torch.arange(len(self)), lengths)
        before = lengths.cumsum(0) - lengths
        positions = torch.arange(len(rows)) - before[rows] + self.starts[rows]
        return rows, self.items[positions].long()

    def holds(self, items: Tensor) -> Tensor:
        """Returns whether row r contains `items[r]`. Shapes: items [rows] -> [rows] bool."""
        contains = torch.zeros(len(self), dtype=torch.bool)
        first = 0
        for block in self.blocks():
            rows, held = block.flat()
            hits = rows[held == items[first : first + len(block)][rows]]
            contains[first + hits] = True
            first += len(block)
        return contains

    def blocks(self, events: int = 1 << 20) -> Iterator[Sequences]:
        """Yields all rows in blocks of about `events` items, for work that needs an array entry per item."""
        after = self.lengths.cumsum(0)
        whole = int(after[-1]) if len(self) else 0
        limits = torch.arange(0, max(whole, 1) + events, events)
        cuts = torch.searchsorted(after, limits).tolist()
        cuts[0], cuts[-1] = 0, len(self)
        for first, last in itertools.pairwise(cuts):
            if first < last:
                yield Sequences(self.items, self.starts[first:last], self.ends[first:last])

    def pad(self, max_len: int | None = None, *, width: int | None = None) -> PaddedBatch:
        """Pads the rows (their last `max_len` items) to one batch, as wide as the longest row or `width`.

        The batch has at least one column, so that models accept a batch of empty histories.
        """
        cut = self if max_len is None else self.tail(max_len)
        lengths = cut.lengths
        width = width or max(1, int(lengths.max()) if len(lengths) else 0)
        offsets = torch.arange(width)
        real = offsets < lengths[:, None]
        positions = torch.where(real, cut.starts[:, None] + offsets, 0)
        taken = self.items[positions] if len(self.items) else torch.zeros_like(positions)
        return PaddedBatch(torch.where(real, taken, 0).long(), lengths)
