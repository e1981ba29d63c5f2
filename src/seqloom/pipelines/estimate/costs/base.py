"""The interface of training costs."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from seqloom.core.cost import BatchShape, ComputeCost


class TrainingCosts(Protocol):
    """Counts of the work and memory of a system's training. The system may be on the `meta` device."""

    def row_lengths(self, histories: Tensor) -> Tensor:
        """Returns the length of each training row, given lengths of histories. Shapes: [users] -> [rows]."""

    def batch_shape(self, lengths: Tensor, width: int) -> BatchShape:
        """Returns the shape of a batch of rows of these lengths, padded to `width`. Shapes: [B]."""

    def step_cost(self, batch: BatchShape) -> ComputeCost:
        """Returns the work of a step, forward and backward, without the optimiser."""

    def query_cost(self, rows: int, length: int) -> ComputeCost:
        """Returns the work of scoring the catalogue for a batch of histories, forward only."""

    def epoch_cost(self, rows: Tensor) -> ComputeCost:
        """Returns the work of an epoch beside its steps; `held` lasts all epoch. Shapes: lengths [users]."""

    def score_width(self) -> int:
        """Width of the vectors that the catalogue is scored with."""

    def shared_bytes(self) -> int:
        """Returns the device memory beside the system's own state: a frozen language model."""
