"""Head users and head items: who teaches MELT's branches, and in which batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.core.random import generator
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset
from seqloom.systems.melt.batches import BranchBatch, ItemBatch, UserBatch
from seqloom.systems.occurrences import Occurrences, find_occurrences, head_from

_MAX_COUNTED_CONTEXTS = 50
"""Contexts beyond the threshold that the curriculum distinguishes at most. Source: authors' code."""


class Head:
    """The head users and head items of the training part, and the batches that are drawn from them.

    The training part alone decides who is head, by the thresholds that group users and items in an
    evaluation.
    """

    def __init__(self, dataset: Dataset, seed: int, max_len: int) -> None:
        train, popularity = dataset.train, dataset.popularity[1:]
        self.seed, self.max_len = seed, max_len
        self.train = train
        self.occurrences: Occurrences = find_occurrences(train, len(popularity), seed, after=1)
        self.user_threshold = head_from(train.lengths, "users")
        self.item_threshold = head_from(popularity, "items")
        self.users = torch.nonzero(train.lengths >= self.user_threshold).flatten()
        usable = self.occurrences.counts > 0
        head = popularity >= self.item_threshold
        self.items = torch.nonzero(head & usable).flatten() + 1
        self.tail_items = torch.nonzero(~head & usable).flatten() + 1
        self.tail_counts = popularity[self.tail_items - 1]

    def contexts(self, items: Tensor, k: int, starts: Tensor | None) -> tuple[Tensor, Sequences]:
        """Returns up to `k` histories that led to each item, and the position in `items` of each."""
        which, real = self.occurrences.draw(items, k, starts)
        owner = torch.arange(len(items))[:, None].expand_as(real)[real]
        return owner, self.occurrences.before(which[real])

    def user_batch(self, users: Tensor, done: float, *keys: str | int) -> UserBatch | None:
        """Draws a short end of each head user's history.

        Args:
            users: rows of the training part; None is returned if there are none.
            done: share of the epochs that are over.
            keys: name the step, for its random draws.
        """
        if not len(users):
            return None
        draw = generator(self.seed, "few", *keys)
        full = self.train.select(users)
        # The short history has as many items as a tail user's may have.
        few = torch.randint(1, max(2, self.user_threshold), (len(users),), generator=draw)
        cut = Sequences(full.items, torch.maximum(full.starts, full.ends - few), full.ends)
        longest = min(self.max_len, int(self.train.lengths.max()))
        span = 2 * max(1, longest - self.user_threshold)
        weights = _curriculum(full.lengths.clamp(max=longest) - self.user_threshold, span, done)
        return UserBatch(full.pad(self.max_len), cut.pad(self.max_len), weights)

    def item_batch(self, items: Tensor, done: float, *keys: str | int) -> ItemBatch | None:
        """Draws a few contexts of each head item; arguments as of `user_batch`."""
        if not len(items):
            return None
        draw = generator(self.seed, "contexts", *keys)
        counts = self.occurrences.counts[items - 1]
        starts = (torch.rand(len(items), generator=draw) * counts).long()
        # As many contexts as a tail item may have.
        few = int(torch.randint(1, max(2, self.item_threshold), (), generator=draw))
        owner, contexts = self.contexts(items, few, starts)
        above = (counts - self.item_threshold).clamp(0, _MAX_COUNTED_CONTEXTS)
        weights = _curriculum(above, 2 * _MAX_COUNTED_CONTEXTS, done)
        return ItemBatch(items, contexts.pad(self.max_len), owner, weights)


@dataclass(frozen=True)
class BranchSteps:
    """An epoch over some head users and head items, in `count` steps."""

    head: Head
    users: Tensor
    items: Tensor
    phase: str
    epoch: int
    epochs: int
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> BranchBatch:
        keys, done = (self.phase, self.epoch, step), self.epoch / max(1, self.epochs)
        users, items = self._rows_of(self.users, step), self._rows_of(self.items, step)
        return BranchBatch(
            self.head.user_batch(users, done, *keys), self.head.item_batch(items, done, *keys)
        )

    def _rows_of(self, rows: Tensor, step: int) -> Tensor:
        """Shuffles the rows for the epoch and returns the step's part of them."""
        draw = generator(self.head.seed, "head", self.phase, self.epoch, len(rows))
        return rows[torch.randperm(len(rows), generator=draw).tensor_split(self.count)[step]]


def _curriculum(above: Tensor, span: int, done: float) -> Tensor:
    """|sin(pi/2 e/E + pi (n - a) / span)|: the longest first, those just above the threshold later.

    Source: Kim et al., SIGIR 2023, section 3.2.
    """
    return torch.sin(math.pi / 2 * done + math.pi * above / span).abs()
