"""Training batches, sliced from flat arrays: no Python code per sample, little padding, reproducible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from seqloom.core.batching import few_lengths
from seqloom.core.errors import ConfigError
from seqloom.core.random import generator
from seqloom.data.options import LongHistories
from seqloom.data.sequences import PaddedBatch, Sequences

_WIDTH_STEP = 8


@dataclass(frozen=True)
class TrainingRows:
    """Training rows of a next-item model: at most `max_len + 1` items each, so `max_len` targets."""

    items: Sequences
    users: Tensor
    """[rows] int64, the user of each row."""
    is_last: Tensor
    """[rows] bool, whether the row ends at the user's last training event."""

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def longest(self) -> int:
        """Length of the longest row in items."""
        return int(self.items.lengths.max())

    def pad(self, rows: Tensor) -> PaddedBatch:
        """Pads some rows to one of a few batch widths. Shapes: rows [B] -> [B, L]."""
        chosen = self.items.select(rows)
        return chosen.pad(width=padded_width(int(chosen.lengths.max()), self.longest))


def padded_width(longest: int, most: int) -> int:
    """Rounds the length of a batch's longest row up to a batch width of at most `most`.

    A matrix library caches kernels for each new shape (half a MiB and 2 ms each on a CPU), and long rows
    are rare, so only multiples of 8 are used beyond 8.
    """
    if longest <= _WIDTH_STEP:
        return longest
    return min(most, -(-longest // _WIDTH_STEP) * _WIDTH_STEP)


def training_rows(train: Sequences, max_len: int, long_histories: LongHistories) -> TrainingRows:
    """Splits every user's training part into rows.

    `windows` splits a long history from its end into pieces that overlap by one item, which is only an
    input, so that every item after the first is a target exactly once; `last` keeps only the last
    piece. Histories of fewer than two items have no target and give no row.
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
    """Input items and the target at each position (the next item)."""

    inputs: PaddedBatch
    targets: Tensor
    """[B, L] int64, the item after each input; 0 where padded."""
    places: Tensor
    """[M] int64, positions of the targets in the flattened [B * L] array. Computed on the host, so that a
    step does not wait for the device to count them."""
    rows: Tensor
    """[B] int64 on the host, row numbers in the `TrainingRows`."""
    predicts_last: Tensor
    """[B] bool on the host, whether the last real position of a row has a target."""
    num_targets: int
    has_gaps: bool = False
    """Whether `places` ends with entries of -1, which stand for no target."""

    @classmethod
    def of(cls, inputs: PaddedBatch, targets: Tensor, rows: Tensor) -> TrainingBatch:
        """Builds a batch from inputs and `targets` [B, L], which are 0 at positions without a target."""
        places = torch.nonzero(targets.flatten()).flatten()
        last = targets.gather(1, (inputs.lengths - 1).clamp(min=0)[:, None])[:, 0]
        return cls(inputs, targets, places, rows, last > 0, len(places))

    def __len__(self) -> int:
        return len(self.rows)

    def share(self, rows: slice) -> TrainingBatch:
        """Returns a slice of the batch: some rows with their targets."""
        inputs = self.inputs.share(rows)
        targets = self.targets[rows, : inputs.items.shape[1]]
        return TrainingBatch.of(inputs, targets, self.rows[rows])

    def to(self, device: torch.device) -> TrainingBatch:
        """Moves the inputs and targets to `device`; row numbers stay on the host."""
        return replace(
            self,
            inputs=self.inputs.to(device),
            targets=self.targets.to(device, non_blocking=True),
            places=self.places.to(device, non_blocking=True),
        )

    def padded(self) -> TrainingBatch:
        """Pads `places` to one of few lengths; see `FixedShape`."""
        if self.has_gaps:
            return self
        count = min(few_lengths(len(self.places)), self.targets.numel())
        places = torch.nn.functional.pad(self.places, (0, count - len(self.places)), value=-1)
        return replace(self, places=places, has_gaps=True)

    def tensors(self) -> tuple[Tensor, ...]:
        """Returns items, lengths, targets and places; see `FixedShape`."""
        return self.inputs.items, self.inputs.lengths, self.targets, self.places

    def with_tensors(self, tensors: Sequence[Tensor]) -> TrainingBatch:
        """Returns the batch with other tensors; see `FixedShape`."""
        items, lengths, targets, places = tensors
        return replace(self, inputs=PaddedBatch(items, lengths), targets=targets, places=places)

    def at_targets(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Selects the states at positions with a target, and the targets, 0 where `places` has a gap.

        Shapes: [B, L, D] -> [M, D], [M].
        """
        if not self.has_gaps:
            return states.flatten(0, 1)[self.places], self.targets.flatten()[self.places]
        places = self.places.clamp(min=0)
        targets = torch.where(self.places < 0, 0, self.targets.flatten()[places])
        return states.flatten(0, 1)[places], targets


@dataclass(frozen=True)
class EpochPlan:
    """The batches of one epoch, each built on demand, so that training can resume at any step."""

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
    """The batches of a plan, with only the last target of each row."""

    plan: EpochPlan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> TrainingBatch:
        batch = self.plan[step]
        places = torch.arange(batch.targets.shape[1])
        last = places == batch.inputs.lengths[:, None] - 1
        return TrainingBatch.of(batch.inputs, torch.where(last, batch.targets, 0), batch.rows)


def plan_epoch(rows: TrainingRows, batch_size: int, seed: int, *keys: str | int) -> EpochPlan:
    """Shuffles rows, groups rows of similar length into batches and shuffles the batches.

    The order depends only on `seed` and `keys` (phase, epoch).

    Raises:
        ConfigError: there are no rows.
    """
    if not len(rows):
        raise ConfigError(
            "no user has two training events, so there are no targets: prepare the data set with a higher "
            "--min-user-count (4 with --split leave-one-out, which holds out two events), or train "
            "popularity, itemknn, textknn or graphknn, which need no targets"
        )
    draw = generator(seed, "batches", *keys)
    shuffled = torch.randperm(len(rows), generator=draw)
    by_length = shuffled[torch.argsort(rows.items.lengths[shuffled], stable=True)]
    batches = by_length.split(batch_size)
    places = torch.randperm(len(batches), generator=draw).tolist()
    return EpochPlan(rows, tuple(batches[place] for place in places))
