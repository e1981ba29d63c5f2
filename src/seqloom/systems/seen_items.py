"""The seen items of each user, which may not be negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.data.sequences import Sequences


class SeenItems:
    """The distinct items of every user's training part, sorted."""

    counts: Tensor
    """[users] int64, the number of distinct items."""

    def __init__(self, train: Sequences, num_items: int) -> None:
        owner, items = train.flat()
        pairs = torch.unique(owner * num_items + items - 1)
        self._items = pairs % num_items
        self.counts = torch.bincount(pairs // num_items, minlength=len(train))
        self._starts = self.counts.cumsum(0) - self.counts
        self._num_items = num_items

    def of(self, users: Tensor) -> Tensor:
        """Returns the item-table rows that each user has seen, padded with N. Shapes: [B] -> [B, S]."""
        counts = self.counts[users]
        place = torch.arange(int(counts.max()) if len(counts) else 0)
        at = (self._starts[users, None] + place).clamp(max=max(0, len(self._items) - 1))
        return torch.where(place < counts[:, None], self._items[at], self._num_items)
