"""The occurrences of items in the training parts, whose contexts complete tail items."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.core.random import generator
from seqloom.data.sequences import Sequences
from seqloom.data.thresholds import head_threshold


@dataclass(frozen=True)
class Occurrences:
    """All usable occurrences, grouped by item and shuffled within an item."""

    train: Sequences
    places: Tensor
    """[M] int64, positions in `train.items`."""
    users: Tensor
    """[M] int64, the row of `train` of each place."""
    offsets: Tensor
    """[N + 1] int64: item i has places[offsets[i - 1]:offsets[i]]."""

    @property
    def counts(self) -> Tensor:
        """Number of usable occurrences of each item. Shapes: [N] int64."""
        return self.offsets.diff()

    def draw(self, items: Tensor, k: int, starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns up to `k` distinct occurrences of each item, from its `starts`-th one on.

        Returns rows of `places`, and which of them are real; the others pad items with fewer than `k`.

        Shapes: items [B], starts [B] -> [B, k] int64, [B, k] bool.
        """
        first, count = self.offsets[items - 1], self.counts[items - 1]
        begin = torch.zeros_like(items) if starts is None else starts
        turn = torch.arange(k)
        which = first[:, None] + (begin[:, None] + turn) % count[:, None].clamp(min=1)
        real = turn < count[:, None]
        return torch.where(real, which, 0), real

    def before(self, which: Tensor) -> Sequences:
        """Returns the history before each occurrence. Shapes: which [C] -> C rows."""
        places = self.places[which]
        return Sequences(self.train.items, self.train.starts[self.users[which]], places)

    def around(self, which: Tensor, reach: int) -> Tensor:
        """Returns the items up to `reach` places before and after each occurrence, 0 outside the history.

        Shapes: which [...] -> [..., 2 reach] int64.
        """
        steps = torch.cat([torch.arange(-reach, 0), torch.arange(1, reach + 1)])
        at = self.places[which][..., None] + steps
        rows = self.users[which][..., None]
        inside = (at >= self.train.starts[rows]) & (at < self.train.ends[rows])
        return torch.where(inside, self.train.items[torch.where(inside, at, 0)], 0).long()


def find_occurrences(train: Sequences, num_items: int, seed: int, *, after: int) -> Occurrences:
    """Finds the occurrences with at least one other item as context.

    Args:
        after: 1 requires an item before the occurrence, 0 an item on either side.
    """
    users, items = train.flat()
    lengths = train.lengths
    before = lengths.cumsum(0) - lengths
    number = torch.arange(len(items)) - before[users]
    places = train.starts[users] + number
    usable = number >= 1 if after else lengths[users] >= 2
    users, items, places = users[usable], items[usable], places[usable]
    shuffled = torch.randperm(len(items), generator=generator(seed, "occurrences"))
    order = shuffled[torch.argsort(items[shuffled], stable=True)]
    counts = torch.bincount(items - 1, minlength=num_items)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    return Occurrences(train, places[order], users[order], offsets)


def head_from(counts: Tensor, what: str) -> int:
    """Returns the smallest count of head items or users.

    Raises:
        ConfigError: all counts are equal.
    """
    threshold = head_threshold(counts)
    if int(counts.max()) < threshold:
        raise ConfigError(
            f"all {what} have {int(counts.max())} training events, so nothing tells head from tail; "
            "this system needs a long tail: prepare the data set with a lower "
            f"--min-{what.removesuffix('s')}-count, or train another system, such as sasrec"
        )
    return threshold
