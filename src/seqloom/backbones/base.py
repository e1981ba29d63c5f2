"""Interface of sequence encoders."""

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
    """Turns the item vectors of a history into states, and decides what its states predict.

    A causal encoder predicts the next item at every position. A bidirectional encoder predicts the items
    behind [MASK] and overrides `training_batches` and `as_query`.
    """

    causal: bool
    """Whether a state depends on its own and earlier positions only."""
    uses_mask: bool = False
    """Whether its histories can hold [MASK], the item number after the last item."""
    max_len: int

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.output_dropout = Dropout(config.output_dropout)
        """Dropout on the states that rank. The ranking phase applies it, so that its noise does not reach
        other losses."""

    @abstractmethod
    def enter(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Prepares item vectors for the encoder (positions, dropout).

        Shapes: [B, L, D], lengths [B] -> [B, L, D].
        """

    @abstractmethod
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Encodes the result of `enter`. Shapes: x [B, L, D], lengths [B] -> [B, L, D]."""

    @abstractmethod
    def cost(self, rows: int, length: int) -> ComputeCost:
        """Returns the cost of `enter` and `forward` for B x L vectors, and of their gradients."""

    def batch_shape(self, lengths: Tensor, width: int) -> BatchShape:
        """Returns the shape of a training batch of rows of these lengths, padded to `width`. Shapes: [B]."""
        return BatchShape(len(lengths), width - 1, float((lengths - 1).sum()))

    def training_batches(self, plan: EpochPlan, mask_item: int, seed: int, epoch: int) -> Steps:
        """Returns the epoch's `TrainingBatch`es, with the `targets` of the states."""
        return plan

    def as_query(self, items: Tensor, lengths: Tensor, mask_item: int) -> tuple[Tensor, Tensor]:
        """Returns histories as inputs whose last state ranks the next item.

        Shapes: items [B, L], lengths [B] -> the same, or one position longer.
        """
        return items, lengths


def padding_mask(x: Tensor, lengths: Tensor) -> Tensor:
    """Returns which positions are real. Shapes: [B, L, D], [B] -> [B, L] bool."""
    return PaddedBatch(x[..., 0], lengths).mask


def transformer_cost(config: TransformerConfig, rows: int, length: int) -> ComputeCost:
    """Returns the cost of positions, dropout, blocks and norm of an encoder for B x L vectors."""
    width, positions = config.hidden_size, rows * length
    block = block_cost(width, config.num_heads, config.inner_factor * width, rows, length)
    ends = ComputeCost(
        elements=40 * positions * width, calls=80, held=5 * FLOAT_BYTES * positions * width
    )
    return block * config.num_layers + ends
