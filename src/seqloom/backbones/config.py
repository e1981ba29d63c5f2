"""Configurations of sequence encoders, one class for each kind."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from seqloom.core.config import Config


class EncoderConfig(Config):
    """Configuration keys of every sequence encoder."""

    hidden_size: int = Field(128, ge=1)
    """Width of item vectors and states (D)."""
    num_layers: int = Field(2, ge=1)
    """Number of transformer blocks or recurrent layers."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Dropout rate on inputs, attention and residuals."""
    output_dropout: float = Field(0.3, ge=0, lt=1)
    """Dropout rate on the states that rank."""
    max_len: int = Field(50, ge=1)
    """Maximum length of a history; older items are dropped."""


class TransformerConfig(EncoderConfig):
    """Configuration keys of encoders of transformer blocks."""

    num_heads: int = Field(2, ge=1)
    """Number of attention heads of a block; must divide hidden_size."""
    inner_factor: int = Field(4, ge=1)
    """Width of the feed-forward part as a multiple of hidden_size."""
    weight_std: float = Field(0.005, gt=0)
    """Standard deviation of the initial weight matrices. Small, so that the residual path, that is the last
    item's own vector, dominates at first."""


class SASRecEncoderConfig(TransformerConfig):
    """Configuration of SASRec, a causal transformer."""

    kind: Literal["sasrec"] = "sasrec"
    """Kind of encoder."""
    dropout: float = Field(0.4, ge=0, lt=1)
    """Dropout rate on inputs, attention and residuals."""


class TextSASRecEncoderConfig(SASRecEncoderConfig):
    """SASRec over item vectors that start from text, with smaller blocks: these vectors hold more already."""

    dropout: float = Field(0.5, ge=0, lt=1)
    """Dropout rate on inputs, attention and residuals."""
    inner_factor: int = Field(1, ge=1)
    """Width of the feed-forward part as a multiple of hidden_size."""


class WordSASRecEncoderConfig(TextSASRecEncoderConfig):
    """SASRec over vectors of length 1 that are made of words, whose dropout regularises already."""

    output_dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout rate on the states that rank."""


class BSARecEncoderConfig(TransformerConfig):
    """Configuration of BSARec, a causal transformer with a filter of frequencies."""

    kind: Literal["bsarec"] = "bsarec"
    """Kind of encoder."""
    dropout: float = Field(0.4, ge=0, lt=1)
    """Dropout rate on inputs, attention and residuals."""
    filter_share: float = Field(0.7, ge=0, le=1)
    """Share of the filter in its mixture with attention (alpha). Source: the paper's value for Beauty."""
    cutoff: int = Field(5, ge=1)
    """Number of the lowest frequencies, of both signs, that the filter keeps as they are (c). Source: the
    paper's value for Beauty."""


class TextBSARecEncoderConfig(BSARecEncoderConfig):
    """BSARec over item vectors that start from text, with smaller blocks, as `TextSASRecEncoderConfig`."""

    dropout: float = Field(0.5, ge=0, lt=1)
    """Dropout rate on inputs, attention and residuals."""
    inner_factor: int = Field(1, ge=1)
    """Width of the feed-forward part as a multiple of hidden_size."""


class GRU4RecEncoderConfig(EncoderConfig):
    """Configuration of GRU4Rec, a gated recurrent network."""

    kind: Literal["gru4rec"] = "gru4rec"
    """Kind of encoder."""
    num_layers: int = Field(1, ge=1)
    """Number of recurrent layers."""
    inner_factor: int = Field(2, ge=1)
    """Width of the recurrent state as a multiple of hidden_size."""
    train_on: Literal["every", "last"] = "every"
    """Targets of a history: every item after the first, or the last item only (as in the LLM-ESR authors'
    code)."""


class BERT4RecEncoderConfig(TransformerConfig):
    """Configuration of BERT4Rec, a bidirectional transformer trained to fill in masked items."""

    kind: Literal["bert4rec"] = "bert4rec"
    """Kind of encoder."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout rate on inputs, attention and residuals. Masking items has much of the effect already."""
    attention_start: Literal["mean", "random"] = "mean"
    """Initial attention. mean: the mean of all items, so that [MASK], which has no item vector of its own,
    holds the mean of its neighbours from the first step; random: random weights."""
    mask_probability: float = Field(0.4, gt=0, lt=1)
    """Probability that an item is masked in training; a row without a mask gets one."""
    last_probability: float = Field(0.3, ge=0, le=1)
    """Share of the rows in which only the last item is masked, as in recommending."""


def _kind(value: Any) -> str:
    """Returns the kind of an encoder's configuration, by default sasrec."""
    if isinstance(value, dict):
        return str(value.get("kind", "sasrec"))
    return str(getattr(value, "kind", "sasrec"))


_BY_KIND = Discriminator(
    _kind,
    custom_error_type="unknown_kind",
    custom_error_message="kind must be sasrec, gru4rec, bert4rec or bsarec",
)


AnyEncoderConfig = Annotated[
    Annotated[SASRecEncoderConfig, Tag("sasrec")]
    | Annotated[GRU4RecEncoderConfig, Tag("gru4rec")]
    | Annotated[BERT4RecEncoderConfig, Tag("bert4rec")]
    | Annotated[BSARecEncoderConfig, Tag("bsarec")],
    _BY_KIND,
]
"""Configuration of any encoder; `kind` selects it, and each kind has its own defaults."""


TextStartEncoderConfig = Annotated[
    Annotated[TextSASRecEncoderConfig, Tag("sasrec")]
    | Annotated[GRU4RecEncoderConfig, Tag("gru4rec")]
    | Annotated[BERT4RecEncoderConfig, Tag("bert4rec")]
    | Annotated[TextBSARecEncoderConfig, Tag("bsarec")],
    _BY_KIND,
]
"""Configuration of any encoder with defaults for item vectors that start from text."""


WordEncoderConfig = Annotated[
    Annotated[WordSASRecEncoderConfig, Tag("sasrec")]
    | Annotated[GRU4RecEncoderConfig, Tag("gru4rec")]
    | Annotated[BERT4RecEncoderConfig, Tag("bert4rec")],
    _BY_KIND,
]
"""Configuration of any encoder with defaults for item vectors that are made of words."""
