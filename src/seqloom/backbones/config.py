"""The configurations of sequence encoders, one class a kind."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from seqloom.core.config import Config


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


TextStartEncoderConfig = Annotated[
    Annotated[TextSASRecEncoderConfig, Tag("sasrec")]
    | Annotated[GRU4RecEncoderConfig, Tag("gru4rec")]
    | Annotated[BERT4RecEncoderConfig, Tag("bert4rec")],
    _BY_KIND,
]
"""The same with the defaults of systems whose item vectors start from text."""
