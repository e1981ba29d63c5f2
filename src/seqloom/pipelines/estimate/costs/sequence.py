"""Costs of training a system over a backbone, added up from the counts of its parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Generic, TypeVar

from torch import Tensor

from seqloom.core.cost import FLOAT_BYTES, BatchShape, ComputeCost
from seqloom.data.batches import training_rows
from seqloom.data.sequences import Sequences
from seqloom.nn.repeats import repeat_cost
from seqloom.systems.ranking_loss import loss_cost
from seqloom.systems.sequence import SequenceSystem

SystemT = TypeVar("SystemT", bound=SequenceSystem[Any])

_LAYERS_OF_A_PASS = 6
"""A pass without gradients holds the tensors of one layer: about a sixth of those of a step."""


class SequenceCosts(Generic[SystemT]):
    """Costs of a system whose training is the ranking phase alone (`TrainingCosts`)."""

    def __init__(self, system: SystemT) -> None:
        self.system = system

    def row_lengths(self, histories: Tensor) -> Tensor:
        """Returns the rows of the ranking phase. Shapes: [users] -> [rows]."""
        rows = training_rows(
            Sequences.shaped(histories), self.system.max_len, self.system.config.long_histories
        )
        return rows.items.lengths

    def batch_shape(self, lengths: Tensor, width: int) -> BatchShape:
        """As the encoder cuts its batches. Shapes: [B]."""
        return self.system.encoder.batch_shape(lengths, width)

    def step_cost(self, batch: BatchShape) -> ComputeCost:
        """Item vectors, states, ranking loss."""
        width, items = self.system.vector_size, self.system.sizes.num_items
        inputs = ComputeCost(
            elements=12 * batch.positions * width,
            moved=3 * FLOAT_BYTES * items * width,  # the gradient of the inputs is a whole table
            gathered=2 * batch.positions,
            calls=40,
            held=FLOAT_BYTES * (4 * batch.positions * width + items * width),
        )
        ranked = loss_cost(self.system.config.loss, batch.targets, items, width)
        states = self.states_cost(batch.rows, batch.length)
        if self.system.repeats is not None:
            states = states + repeat_cost(batch.rows, batch.length, batch.targets)
        return inputs + self.vectors_cost() + states + ranked + self.extra_cost(batch)

    def query_cost(self, rows: int, length: int) -> ComputeCost:
        """States without a way back, and a score for each item, looked at three times."""
        width, items = self.system.vector_size, self.system.sizes.num_items
        states = self.states_cost(rows, length)
        scores = ComputeCost(
            products=2 * rows * items * width,
            elements=rows * items,
            logits=rows * items,
            held=3 * FLOAT_BYTES * rows * items + states.held / _LAYERS_OF_A_PASS,
        )
        return replace(states, held=0) * (1 / 3) + scores

    def score_width(self) -> int:
        """D'."""
        return self.system.vector_size

    def shared_bytes(self) -> int:
        """Nothing."""
        return 0

    def epoch_cost(self, rows: Tensor) -> ComputeCost:
        """Nothing beside the steps. Shapes: [users]."""
        return ComputeCost()

    def vectors_cost(self) -> ComputeCost:
        """`item_vectors`; nothing where they are a table."""
        return ComputeCost()

    def states_cost(self, rows: int, length: int) -> ComputeCost:
        """`states`, without the inputs."""
        return self.system.encoder.cost(rows, length)

    def extra_cost(self, batch: BatchShape) -> ComputeCost:
        """`extra_losses`."""
        return ComputeCost()
