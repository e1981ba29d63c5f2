"""The interface of sequence encoders."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from seqloom.backbones.config import EncoderConfig, TransformerConfig
from seqloom.core.cost import FLOAT_BYTES, BatchShape, ComputeCost
from seqloom.core.phase import Steps
from seqloom.data.batches import EpochPlan
from seqloom.data.sequences import PaddedBatch
from seqloom.nn.attention import block_cost
from seqloom.nn.dropout import Dropout


class SequenceEncoder(nn.Module, ABC):
    """Turns item vectors of a history into states, and says what its states are trained to predict.

    A causal encoder predicts, at every position, the item after it. One that sees both sides
    predicts what stands behind [MASK] and overrides `training_batches` and `as_query`.
    """

    causal: bool
    """Whether a state depends on its own and earlier positions only."""
    uses_mask: bool = False
    """Whether [MASK], the item number after the last, enters its histories."""
    max_len: int

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.output_dropout = Dropout(config.output_dropout)
        """Dropout on the states that rank. The ranking phase applies it, so that other losses on states
        do not train on its noise."""

    @abstractmethod
    def enter(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Prepare item vectors for the encoder (positions, dropout).

        Shapes: [B, L, D], lengths [B] -> [B, L, D].
        """

    @abstractmethod
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Encode what `enter` gave. Shapes: x [B, L, D], lengths [B] -> [B, L, D]."""

    @abstractmethod
    def cost(self, rows: int, length: int) -> ComputeCost:
        """`enter` and `forward` of B x L vectors, and the way back."""

    def batch_shape(self, lengths: Tensor, width: int) -> BatchShape:
        """The shape of a training batch of rows with so many items, padded to `width`. Shapes: [B]."""
        return BatchShape(len(lengths), width - 1, float((lengths - 1).sum()))

    def training_batches(self, plan: EpochPlan, mask_item: int, seed: int, epoch: int) -> Steps:
        """The epoch's `TrainingBatch`es; `targets` are what the states are trained on."""
        return plan

    def as_query(self, items: Tensor, lengths: Tensor, mask_item: int) -> tuple[Tensor, Tensor]:
        """A history as it enters when its next item is asked for; its last state is the answer.

        Shapes: items [B, L], lengths [B] -> the same, or one longer.
        """
        return items, lengths


def padding_mask(x: Tensor, lengths: Tensor) -> Tensor:
    """[B, L] true where a position is real."""
    return PaddedBatch(x[..., 0], lengths).mask


def transformer_cost(config: TransformerConfig, rows: int, length: int) -> ComputeCost:
    """Positions and dropout, the blocks and the norm of an encoder over B x L vectors."""
    width, positions = config.hidden_size, rows * length
    block = block_cost(width, config.num_heads, config.inner_factor * width, rows, length)
    ends = ComputeCost(
        elements=40 * positions * width, calls=80, held=5 * FLOAT_BYTES * positions * width
    )
    return block * config.num_layers + ends
