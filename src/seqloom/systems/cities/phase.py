"""CITIES' second phase: infer the trained rows of head items from a few of their contexts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqloom.core.errors import ConfigError
from seqloom.core.phase import Mean
from seqloom.core.random import generator
from seqloom.systems.base import TrainingData
from seqloom.systems.cities.model import CITIESModel
from seqloom.systems.occurrences import Occurrences, find_occurrences, head_from


@dataclass(frozen=True)
class ContextBatch:
    """Head items and the items around a few of their occurrences."""

    items: Tensor
    """[B] item numbers."""
    contexts: Tensor
    """[B, K, W] item numbers, 0 for none."""

    @property
    def num_targets(self) -> int:
        return len(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def share(self, rows: slice) -> ContextBatch:
        """Returns some of the items."""
        return ContextBatch(self.items[rows], self.contexts[rows])

    def to(self, device: torch.device) -> ContextBatch:
        """Moves the batch to `device`."""
        return ContextBatch(self.items.to(device), self.contexts.to(device))


class ContextPhase:
    """Trains the inference network alone; the recommender and its ranks stay unchanged."""

    name = "contexts"
    validated = False

    def __init__(self, system: CITIESModel, data: TrainingData) -> None:
        self.system = system
        self.config = system.config.inference
        self.optimisation = self.config.optimisation()
        popularity = data.dataset.popularity[1:]
        self.occurrences: Occurrences = find_occurrences(
            data.dataset.train, system.sizes.num_items, system.config.seed, after=0
        )
        self.train = data.dataset.train
        usable = self.occurrences.counts > 0
        below = self.config.tail_below
        head = popularity >= (head_from(popularity, "items") if below is None else below)
        self.head_items = torch.nonzero(head & usable).flatten() + 1
        self.tail_items = torch.nonzero(~head & usable).flatten() + 1
        self.tail_counts = popularity[self.tail_items - 1]
        if not len(self.head_items):
            raise ConfigError(
                f"inference.tail_below is {below}, and no item that occurs beside another has so many "
                f"training events (the most frequent one has {int(popularity.max())}), so there is nothing "
                "to learn from; lower it, or set it to null for the data set's own 80/20 threshold"
            )
        most = (
            int(self.occurrences.counts[self.tail_items - 1].amax()) if len(self.tail_items) else 1
        )
        # Head items are read from at most as many contexts as tail items have.
        self.most_contexts = min(self.config.max_contexts, most)

    @property
    def module(self) -> nn.Module:
        """The inference network."""
        return self.system.inference

    def steps(self, epoch: int) -> _ContextSteps:
        """Returns the batches of an epoch."""
        system = self.system
        system.inference.scale.copy_(system.items.detach().std())
        draw = generator(system.config.seed, "batches", self.name, epoch)
        order = self.head_items[torch.randperm(len(self.head_items), generator=draw)]
        return _ContextSteps(self, order.split(self.config.batch_size), epoch)

    def contexts(self, items: Tensor, starts: Tensor | None, k: int | None = None) -> Tensor:
        """Returns the items around up to `k` occurrences of each item.

        Shapes: items [B], starts [B] -> [B, K, W].
        """
        which, real = self.occurrences.draw(items, k or self.config.max_contexts, starts)
        around = self.occurrences.around(which, self.config.reach)
        return torch.where(real[..., None], around, 0)

    def loss(self, batch: ContextBatch) -> dict[str, Mean]:
        """Returns the squared error of the inferred rows, as a share of the table's variance."""
        table = self.system.items.detach()
        inferred = self.system.inference(batch.contexts, table)
        rows = table[batch.items - 1]
        scale = self.system.inference.scale
        return {"loss": Mean(F.mse_loss(inferred / scale, rows / scale), len(batch.items))}


@dataclass(frozen=True)
class _ContextSteps:
    """Batches of head items, each with as many contexts as a tail item may have."""

    phase: ContextPhase
    batches: tuple[Tensor, ...]
    epoch: int

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, step: int) -> ContextBatch:
        phase, items = self.phase, self.batches[step]
        draw = generator(phase.system.config.seed, "contexts", self.epoch, step)
        few = int(torch.randint(1, phase.most_contexts + 1, (), generator=draw))
        counts = phase.occurrences.counts[items - 1]
        starts = (torch.rand(len(items), generator=draw) * counts).long()
        return ContextBatch(items, phase.contexts(items, starts, few))
