"""The interface of training costs."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from seqloom.core.cost import BatchShape, ComputeCost


class TrainingCosts(Protocol):
    """Counts of the work and memory of a system's training. The system may be on the `meta` device."""

    def row_lengths(self, histories: Tensor) -> Tensor:
        """Items in each row that training cuts from histories of so many. Shapes: [users] -> [rows]."""

    def batch_shape(self, lengths: Tensor, width: int) -> BatchShape:
        """The shape of the batch of rows that hold so many items, `width` with padding. Shapes: [B]."""

    def step_cost(self, batch: BatchShape) -> ComputeCost:
        """One step, forward and backward, without the optimiser."""

    def query_cost(self, rows: int, length: int) -> ComputeCost:
        """Ranking the whole catalogue for so many histories, forward alone."""

    def epoch_cost(self, rows: Tensor) -> ComputeCost:
        """What an epoch takes beside its steps; `held` is held throughout. Shapes: lengths [users]."""

    def score_width(self) -> int:
        """Width of the vectors that the catalogue is scored with."""

    def shared_bytes(self) -> int:
        """What it needs on its device beside its own state: a frozen language model."""
