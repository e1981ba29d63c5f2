"""Training batches cut from flat arrays: no Python per sample, little padding, reproducible order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.core.random import generator
from seqloom.data.sequences import PaddedBatch, Sequences

LongHistories = Literal["windows", "last"]
_WIDTH_STEP = 8


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

    @cached_property
    def longest(self) -> int:
        """Items of the longest row."""
        return int(self.items.lengths.max())

    def pad(self, rows: Tensor) -> PaddedBatch:
        """Some rows as a padded batch of one of few widths. Shapes: rows [B] -> [B, L]."""
        chosen = self.items.select(rows)
        return chosen.pad(width=padded_width(int(chosen.lengths.max()), self.longest))


def padded_width(longest: int, most: int) -> int:
    """How wide a training batch is whose longest row has so many items; `most` is the longest of all.

    Long rows are few, and every width of its own would cost the kernels that a matrix library keeps for
    each shape that it meets (half a MiB and 2 ms each on a CPU).
    """
    if longest <= _WIDTH_STEP:
        return longest
    return min(most, -(-longest // _WIDTH_STEP) * _WIDTH_STEP)


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
    places: Tensor
    """[M] int64, where the flattened targets hold one. Known before the batch goes to a device, so that
    a step need not wait for the device to count them."""
    rows: Tensor
    """[B] int64 on the host, row numbers in the `TrainingRows`."""
    predicts_last: Tensor
    """[B] bool on the host, whether a row's last real position has a target."""
    num_targets: int

    @classmethod
    def of(cls, inputs: PaddedBatch, targets: Tensor, rows: Tensor) -> TrainingBatch:
        """The batch of `targets` [B, L], 0 where there is none."""
        places = torch.nonzero(targets.flatten()).flatten()
        last = targets.gather(1, (inputs.lengths - 1).clamp(min=0)[:, None])[:, 0]
        return cls(inputs, targets, places, rows, last > 0, len(places))

    def __len__(self) -> int:
        return len(self.rows)

    def share(self, rows: slice) -> TrainingBatch:
        """Some rows, with the targets that are theirs."""
        inputs = self.inputs.share(rows)
        targets = self.targets[rows, : inputs.items.shape[1]]
        return TrainingBatch.of(inputs, targets, self.rows[rows])

    def to(self, device: torch.device) -> TrainingBatch:
        """The same batch with what enters the model on `device`."""
        return replace(
            self,
            inputs=self.inputs.to(device),
            targets=self.targets.to(device, non_blocking=True),
            places=self.places.to(device, non_blocking=True),
        )

    def at_targets(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """The states that have a target, and the targets. Shapes: [B, L, D] -> [M, D], [M]."""
        return states.flatten(0, 1)[self.places], self.targets.flatten()[self.places]


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
        whole = self.rows.pad(rows)
        lengths = whole.lengths - 1
        inputs = PaddedBatch(whole.items[:, :-1], lengths)
        inputs = PaddedBatch(torch.where(inputs.mask, inputs.items, 0), lengths)
        return TrainingBatch.of(inputs, whole.items[:, 1:], rows)


@dataclass(frozen=True)
class LastTargets:
    """The batches of a plan with the last target of each row alone."""

    plan: EpochPlan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> TrainingBatch:
        batch = self.plan[step]
        places = torch.arange(batch.targets.shape[1])
        last = places == batch.inputs.lengths[:, None] - 1
        return TrainingBatch.of(batch.inputs, torch.where(last, batch.targets, 0), batch.rows)


def plan_epoch(rows: TrainingRows, batch_size: int, seed: int, *keys: str | int) -> EpochPlan:
    """Shuffle, group rows of like length into batches, shuffle the batches.

    The order depends on `seed` and `keys` (phase, epoch) alone.

    Raises:
        ConfigError: there are no rows.
    """
    if not len(rows):
        raise ConfigError(
            "no user has two training events, so there is no target to train on: prepare the data set with "
            "a higher --min-user-count (4 with --split leave-one-out, which holds two events out), or train "
            "popularity, itemknn or textknn, which need no targets"
        )
    draw = generator(seed, "batches", *keys)
    shuffled = torch.randperm(len(rows), generator=draw)
    by_length = shuffled[torch.argsort(rows.items.lengths[shuffled], stable=True)]
    batches = by_length.split(batch_size)
    places = torch.randperm(len(batches), generator=draw).tolist()
    return EpochPlan(rows, tuple(batches[place] for place in places))
