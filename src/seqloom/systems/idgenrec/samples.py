"""Training rows of the recommender, mixed over data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seqloom.core.random import generator
from seqloom.data.batches import EpochPlan, TrainingBatch, TrainingRows, plan_epoch
from seqloom.data.sequences import Sequences


def prefix_rows(train: Sequences, max_len: int) -> TrainingRows:
    """Returns a row for each item after a user's first: up to `max_len` items before it, then the item."""
    counts = (train.lengths - 1).clamp(min=0)
    source = torch.repeat_interleave(torch.arange(len(train)), counts)
    number = torch.arange(len(source)) - (counts.cumsum(0) - counts)[source]
    ends = train.starts[source] + number + 2
    starts = torch.maximum(train.starts[source], ends - max_len - 1)
    items = Sequences(train.items, starts, ends)
    return TrainingRows(items, source, ends == train.ends[source])


@dataclass(frozen=True)
class PrefixPlan:
    """The batches of an epoch of prefixes; only the last item of a row is a target."""

    plan: EpochPlan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> TrainingBatch:
        batch = self.plan[step]
        return replace(batch, num_targets=len(batch.rows))


@dataclass(frozen=True)
class Mixture:
    """Samples rows of several data sets with more weight on small ones.

    Source: temperature-weighted sampling of multilingual models (arXiv 1907.05019); IDGenRec
        (arXiv 2403.19021) mixes its data sets without weights, which is temperature 1.
    """

    rows: TrainingRows
    users: Sequence[int]
    """Number of users of each data set; user numbers continue from one data set to the next."""
    temperature: float
    seed: int
    times: int = 1
    """Number of times that each row occurs in an epoch."""

    def epoch(self, phase: str, epoch: int, batch_size: int) -> EpochPlan:
        """Returns the batches of an epoch of `times` times the number of rows.

        A data set with n rows is drawn in proportion to n ** (1 / temperature).
        """
        rows, chosen = self.rows, None
        if len(self.users) > 1 and self.temperature > 1:
            chosen = self._draw(generator(self.seed, "mixture", phase, epoch))
        if self.times > 1:
            chosen = torch.arange(len(rows)) if chosen is None else chosen
            chosen = chosen.repeat(self.times)
        if chosen is not None:
            rows = TrainingRows(rows.items.select(chosen), rows.users[chosen], rows.is_last[chosen])
        return plan_epoch(rows, batch_size, self.seed, phase, epoch)

    def _draw(self, draw: torch.Generator) -> Tensor:
        # The data set of each row, and its share of the epoch.
        bounds = torch.tensor(self.users).cumsum(0)
        origin = torch.searchsorted(bounds, self.rows.users, right=True)
        counts = torch.bincount(origin, minlength=len(self.users))
        weights = counts.double() ** (1 / self.temperature)
        sizes = (weights / weights.sum() * len(origin)).round().long()
        chosen = []
        for number in range(len(self.users)):
            own = torch.nonzero(origin == number).flatten()
            left = int(sizes[number]) if len(own) else 0
            while left:  # every row before any row repeats
                part = own[torch.randperm(len(own), generator=draw)[:left]]
                chosen.append(part)
                left -= len(part)
        return torch.cat(chosen)
