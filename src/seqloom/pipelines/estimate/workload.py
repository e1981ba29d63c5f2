"""Counts the work of training a system on a data set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from seqloom.core.batching import EVALUATION_LIMITS
from seqloom.core.cost import FLOAT_BYTES, BatchShape, ComputeCost
from seqloom.core.phase import Optimisation
from seqloom.data.batches import padded_width
from seqloom.data.store import Dataset
from seqloom.pipelines.estimate.costs import TrainingCosts
from seqloom.systems.base import System

_SAMPLED_BATCHES = 200
_OPTIMISER_PASSES = 7
"""AdamW reads weights, gradients and two moments, and writes all but the gradients."""
_AVERAGING_PASSES = 3 / 8
"""The mean of the weights reads two tables and writes one, at every eighth step."""


@runtime_checkable
class HasBatchSize(Protocol):
    """A configuration with a batch size."""

    @property
    def batch_size(self) -> int:
        """Rows of a batch."""


@runtime_checkable
class TrainsInBatches(HasBatchSize, Protocol):
    """The configuration of a system with one phase, over batches of rows."""

    def optimisation(self) -> Optimisation:
        """Returns the settings of the phase."""


@dataclass(frozen=True)
class Workload:
    """The training of one configured system on one data set. The model may be on the `meta` device."""

    dataset: Dataset
    model: System[Any]
    costs: TrainingCosts
    config: TrainsInBatches

    @cached_property
    def row_lengths(self) -> Tensor:
        """[rows] int64, items of each training row, ascending."""
        return self.costs.row_lengths(self.dataset.train.lengths).sort().values

    def _shape(self, lengths: Tensor) -> BatchShape:
        width = padded_width(int(lengths[-1]), int(self.row_lengths[-1]))
        return self.costs.batch_shape(lengths, width)

    @property
    def averages(self) -> bool:
        """Whether training keeps a mean of the weights."""
        return self.config.optimisation().averaging is not None

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.row_lengths) // self.config.batch_size)

    @cached_property
    def sample(self) -> list[BatchShape]:
        """Batches of an epoch at equal distances of length; the longest is the last."""
        batches = self.row_lengths.split(self.config.batch_size)
        taken = torch.linspace(0, len(batches) - 1, min(len(batches), _SAMPLED_BATCHES)).round()
        return [self._shape(batches[int(at)]) for at in taken]

    @property
    def targets(self) -> int:
        """Targets of an epoch."""
        mean = sum(batch.targets for batch in self.sample) / len(self.sample)
        return round(mean * self.steps)

    @cached_property
    def most_targets(self) -> int:
        """Targets of the largest batch."""
        return round(max(batch.targets for batch in self.sample))

    @cached_property
    def parameters(self) -> int:
        """Trained parameters."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def epoch(self) -> ComputeCost:
        """Returns the work of an epoch; `held` is that of its largest step."""
        steps = [self.costs.step_cost(batch) for batch in self.sample]
        mean = sum(steps, ComputeCost()) * (self.steps / len(steps))
        beside = self.costs.epoch_cost(self.dataset.train.lengths)
        held = max(step.held for step in steps) + beside.held
        whole = mean + self._update() * self.steps + beside
        return replace(whole, held=held)

    def validation(self) -> ComputeCost:
        """Returns the work of ranking all validation targets; `held` is that of one batch."""
        lengths = self.dataset.held_out("valid").histories.lengths.clamp(max=self.model.max_len)
        items = self.dataset.num_items
        at_once = max(1, min(EVALUATION_LIMITS.rows, EVALUATION_LIMITS.scores // items))
        batches = lengths.sort().values.split(at_once)
        taken = torch.linspace(0, len(batches) - 1, min(len(batches), _SAMPLED_BATCHES)).round()
        shapes = [(len(batches[int(at)]), int(batches[int(at)].max())) for at in taken]
        parts = [self.costs.query_cost(rows, length) for rows, length in shapes if length]
        if not parts:
            return ComputeCost()
        whole = sum(parts, ComputeCost()) * (len(batches) / len(parts))
        return replace(whole, held=max(part.held for part in parts))

    def _update(self) -> ComputeCost:
        """Returns the work of the optimiser's step and of the mean of the weights."""
        passes = _OPTIMISER_PASSES + (_AVERAGING_PASSES if self.averages else 0)
        tensors = sum(1 for p in self.model.parameters() if p.requires_grad)
        return ComputeCost(moved=passes * FLOAT_BYTES * self.parameters, calls=4 * tensors)
