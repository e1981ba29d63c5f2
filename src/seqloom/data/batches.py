"""Training batches cut from flat arrays: no Python per sample, little padding, reproducible order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seqloom.core.random import generator
from seqloom.data.sequences import PaddedBatch, Sequences

LongHistories = Literal["windows", "last"]


@dataclass(frozen=True)
class TrainingRows:
    """What a next-item model trains on: rows of at most `max_len + 1` items, so `max_len` targets."""

    items: Sequences
    users: Tensor
    """[rows] int64, the user of each row."""
    is_last: Tensor
    """[rows] bool, whether the row ends where the user's training part ends."""

    def __len__(self) -> int:
        return len(self.users)


def training_rows(train: Sequences, max_len: int, long_histories: LongHistories) -> TrainingRows:
    """Cut every user's training part into rows.

    `windows` cuts a longer history from its end into pieces that overlap by the one item that is only
    an input, so every item after the first is a target once; `last` keeps the last piece alone.
    Histories of fewer than two items have no target and give no row.
    """
    users = torch.nonzero(train.lengths >= 2).flatten()
    train = train.select(users)
    pieces = (train.lengths - 2) // max_len + 1
    if long_histories == "last":
        pieces = torch.ones_like(pieces)
    source = torch.repeat_interleave(torch.arange(len(train)), pieces)
    number = torch.arange(len(source)) - (pieces.cumsum(0) - pieces)[source]
    ends = train.ends[source] - number * max_len
    starts = torch.maximum(train.starts[source], ends - max_len - 1)
    return TrainingRows(Sequences(train.items, starts, ends), users[source], number == 0)


@dataclass(frozen=True)
class TrainingBatch:
    """Inputs and, one place further, what is to be predicted at each of them."""

    inputs: PaddedBatch
    targets: Tensor
    """[B, L] int64, the item after each input; 0 where padded."""
    rows: Tensor
    """[B] int64, row numbers in the `TrainingRows`."""
    num_targets: int

    def __len__(self) -> int:
        return len(self.rows)

    def share(self, rows: slice) -> TrainingBatch:
        """Some rows, with the targets that are theirs."""
        inputs = self.inputs.share(rows)
        targets = self.targets[rows, : inputs.items.shape[1]]
        return TrainingBatch(inputs, targets, self.rows[rows], int((targets > 0).sum()))

    def to(self, device: torch.device) -> TrainingBatch:
        """The same batch on `device`."""
        targets = self.targets.to(device, non_blocking=True)
        rows = self.rows.to(device, non_blocking=True)
        return TrainingBatch(self.inputs.to(device), targets, rows, self.num_targets)


@dataclass(frozen=True)
class EpochPlan:
    """The batches of one epoch; any step can be cut on its own, which is what resuming needs."""

    rows: TrainingRows
    order: tuple[Tensor, ...]
    """Row numbers of each batch."""

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, step: int) -> TrainingBatch:
        rows = self.order[step]
        whole = self.rows.items.select(rows).pad()
        lengths = whole.lengths - 1
        inputs = PaddedBatch(whole.items[:, :-1], lengths)
        inputs = PaddedBatch(torch.where(inputs.mask, inputs.items, 0), lengths)
        return TrainingBatch(inputs, whole.items[:, 1:], rows, int(lengths.sum()))


def plan_epoch(rows: TrainingRows, batch_size: int, seed: int, *keys: str | int) -> EpochPlan:
    """Shuffle, group rows of like length into batches, shuffle the batches.

    The order depends on `seed` and `keys` (phase, epoch) alone.
    """
    draw = generator(seed, "batches", *keys)
    shuffled = torch.randperm(len(rows), generator=draw)
    by_length = shuffled[torch.argsort(rows.items.lengths[shuffled], stable=True)]
    batches = by_length.split(batch_size)
    places = torch.randperm(len(batches), generator=draw).tolist()
    return EpochPlan(rows, tuple(batches[place] for place in places))
