"""What every sequence encoder gives, and how one is built from a config."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag
from torch import Tensor, nn

from seqloom.core.config import Config
from seqloom.core.cost import FLOAT_BYTES, BatchShape, Cost
from seqloom.core.errors import ConfigError
from seqloom.core.phase import Steps
from seqloom.data.batches import EpochPlan
from seqloom.data.sequences import PaddedBatch
from seqloom.nn.attention import block_cost
from seqloom.nn.dropout import Dropout


class EncoderConfig(Config):
    """Shape of a sequence encoder: what all kinds have."""

    hidden_size: int = Field(128, ge=1)
    """Width D of item vectors and states."""
    num_layers: int = Field(2, ge=1)
    """Number of blocks, or of recurrent layers."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Dropout on inputs, attention and residuals."""
    output_dropout: float = Field(0.3, ge=0, lt=1)
    """Dropout on the states that rank."""
    max_len: int = Field(50, ge=1)
    """Longest history read; older items are cut off."""


class TransformerConfig(EncoderConfig):
    """Shape of an encoder of transformer blocks."""

    num_heads: int = Field(2, ge=1)
    """Attention heads of a block; must divide hidden_size."""
    inner_factor: int = Field(4, ge=1)
    """Width of the feed-forward part as a multiple of hidden_size."""
    weight_std: float = Field(0.005, gt=0)
    """Standard deviation of the weight matrices at the start. Small: the residual path, that is the last
    item's own vector, speaks first."""


class SASRecEncoderConfig(TransformerConfig):
    """A causal transformer."""

    kind: Literal["sasrec"] = "sasrec"
    """Which encoder."""
    dropout: float = Field(0.4, ge=0, lt=1)
    """Dropout on inputs, attention and residuals."""


class TextSASRecEncoderConfig(SASRecEncoderConfig):
    """The same over item vectors that start from text: they know more, so less is left to the blocks."""

    dropout: float = Field(0.5, ge=0, lt=1)
    """Dropout on inputs, attention and residuals."""
    inner_factor: int = Field(1, ge=1)
    """Width of the feed-forward part as a multiple of hidden_size."""


class GRU4RecEncoderConfig(EncoderConfig):
    """A gated recurrent network."""

    kind: Literal["gru4rec"] = "gru4rec"
    """Which encoder."""
    num_layers: int = Field(1, ge=1)
    """Number of recurrent layers."""
    inner_factor: int = Field(2, ge=1)
    """Width of the recurrent state as a multiple of hidden_size."""
    train_on: Literal["every", "last"] = "every"
    """Targets of a history: each item after the first, or the last one alone (as in the LLM-ESR authors'
    code)."""


class BERT4RecEncoderConfig(TransformerConfig):
    """A transformer that sees both sides, trained to fill in masked items."""

    kind: Literal["bert4rec"] = "bert4rec"
    """Which encoder."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout on inputs, attention and residuals. Masking items is much of it already."""
    attention_start: Literal["mean", "random"] = "mean"
    """Attention starts as the mean of the items that it reads, so that [MASK], which has no vector of an item
    to speak first, is a mean of its neighbours from the first step; or with random weights."""
    mask_probability: float = Field(0.4, gt=0, lt=1)
    """Chance of each item to be masked in training; a row without a mask gets one."""
    last_probability: float = Field(0.3, ge=0, le=1)
    """Share of the rows in which the last item alone is masked, as it is when recommending."""


def _kind(value: Any) -> str:
    """The kind of an encoder's configuration; sasrec where none is named."""
    if isinstance(value, dict):
        return str(value.get("kind", "sasrec"))
    return str(getattr(value, "kind", "sasrec"))


_BY_KIND = Discriminator(
    _kind,
    custom_error_type="unknown_kind",
    custom_error_message="kind must be sasrec, gru4rec or bert4rec",
)

AnyEncoderConfig = Annotated[
    Annotated[SASRecEncoderConfig, Tag("sasrec")]
    | Annotated[GRU4RecEncoderConfig, Tag("gru4rec")]
    | Annotated[BERT4RecEncoderConfig, Tag("bert4rec")],
    _BY_KIND,
]
"""The configuration of any encoder; `kind` says which, and each kind has its own defaults."""

TextEncoderConfig = Annotated[
    Annotated[TextSASRecEncoderConfig, Tag("sasrec")]
    | Annotated[GRU4RecEncoderConfig, Tag("gru4rec")]
    | Annotated[BERT4RecEncoderConfig, Tag("bert4rec")],
    _BY_KIND,
]
"""The same with the defaults of systems whose item vectors start from text."""


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
    def cost(self, rows: int, length: int) -> Cost:
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


def build_encoder(config: EncoderConfig) -> SequenceEncoder:
    """Make an encoder with fresh weights.

    Raises:
        ConfigError: num_heads does not divide hidden_size.
    """
    from seqloom.encoders.bert4rec import BERT4RecEncoder
    from seqloom.encoders.gru4rec import GRU4RecEncoder
    from seqloom.encoders.sasrec import SASRecEncoder

    if isinstance(config, TransformerConfig) and config.hidden_size % config.num_heads:
        raise ConfigError(
            f"encoder.num_heads {config.num_heads} does not divide encoder.hidden_size "
            f"{config.hidden_size}; choose a divisor"
        )
    if isinstance(config, GRU4RecEncoderConfig):
        return GRU4RecEncoder(config)
    if isinstance(config, BERT4RecEncoderConfig):
        return BERT4RecEncoder(config)
    assert isinstance(config, SASRecEncoderConfig)
    return SASRecEncoder(config)


def transformer_cost(config: TransformerConfig, rows: int, length: int) -> Cost:
    """Positions and dropout, the blocks and the norm of an encoder over B x L vectors."""
    width, positions = config.hidden_size, rows * length
    block = block_cost(width, config.num_heads, config.inner_factor * width, rows, length)
    ends = Cost(elements=40 * positions * width, calls=80, held=5 * FLOAT_BYTES * positions * width)
    return block * config.num_layers + ends
