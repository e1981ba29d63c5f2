"""Configurations of the systems that are one module."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seqloom.backbones.config import (
    BERT4RecEncoderConfig,
    BSARecEncoderConfig,
    GRU4RecEncoderConfig,
    SASRecEncoderConfig,
    TextSASRecEncoderConfig,
    TextStartEncoderConfig,
    WordEncoderConfig,
    WordSASRecEncoderConfig,
)
from seqloom.systems.base_config import IDConfig, OffsetLossConfig, SequenceConfig, SystemConfig
from seqloom.text.words.config import WordsConfig


class PopularityConfig(SystemConfig):
    """Configuration of popularity, which has no keys of its own."""


class ItemKNNConfig(SystemConfig):
    """Configuration of ItemKNN."""

    neighbours: int = Field(200, ge=1)
    """Number of neighbours of each item."""
    shrinkage: float = Field(5.0, ge=0)
    """Constant added to the denominator of the cosine, so that few common users weigh less."""
    decay: float = Field(0.7, gt=0, le=1)
    """Weight of a history item relative to the next one; 1 weighs all equally."""
    max_len: int = Field(50, ge=1)
    """Number of most recent history items that are used."""


class TextKNNConfig(SystemConfig):
    """Configuration of TextKNN."""

    text: str | None = None
    """Name of the text embedding; null: the default one of the data set."""
    whitening: float = Field(0.75, ge=0, le=1)
    """Divide each principal component by its standard deviation to this power. 0: cosine of the centred
    vectors; 1: all directions count equally, so that what varies most between texts counts less."""
    decay: float = Field(0.6, gt=0, le=1)
    """Weight of a history item relative to the next one; 1 weighs all equally."""
    max_len: int = Field(50, ge=1)
    """Number of most recent history items that are used."""


class BPRConfig(SystemConfig):
    """Configuration of BPR."""

    epochs: int = Field(200, ge=0)
    """Maximum number of epochs; early stopping usually ends training sooner."""
    batch_size: int = Field(1024, ge=1)
    """Number of events in a batch."""
    learning_rate: float = Field(5e-3, gt=0)
    """Peak learning rate of AdamW."""
    patience: int | None = Field(20, ge=1)
    """Number of validations without improvement after which training stops; null: never."""
    hidden_size: int = Field(128, ge=1)
    """Width of the vectors."""
    initial_std: float = Field(0.1, gt=0)
    """Standard deviation of the initial vectors."""
    penalty: float = Field(0.01, ge=0)
    """Weight of the squared norms of an event's three vectors in the loss."""
    fold_in: float = Field(1.0, gt=0)
    """Penalty of a history's vector in the regression on its items. Larger values are nearer to a sum."""
    max_len: int = Field(50, ge=1)
    """Number of most recent history items that are used."""


class SASRecConfig(IDConfig):
    """Configuration of SASRec."""

    encoder: SASRecEncoderConfig = Field(default_factory=SASRecEncoderConfig)
    """Sequence encoder."""


class GRU4RecConfig(IDConfig):
    """Configuration of GRU4Rec; the loss and the training keys are those of SASRec."""

    encoder: GRU4RecEncoderConfig = Field(default_factory=GRU4RecEncoderConfig)
    """Sequence encoder."""


class BERT4RecConfig(IDConfig):
    """Configuration of BERT4Rec; the loss is that of SASRec."""

    epochs: int = Field(200, ge=0)
    """Maximum number of epochs; masking gives an epoch fewer targets than next-item prediction."""
    batch_size: int = Field(256, ge=1)
    """Number of histories in a batch."""
    encoder: BERT4RecEncoderConfig = Field(default_factory=BERT4RecEncoderConfig)
    """Sequence encoder."""


class LLMInitConfig(IDConfig):
    """Configuration of LLMInit."""

    text: str | None = None
    """Name of the text embedding; null: the default one of the data set."""
    initial_std: float = Field(0.12, gt=0)
    """Standard deviation of the initial item table."""
    whitening: float = Field(0.5, ge=0, le=1)
    """Divide each principal component by its standard deviation to this power: 0 not at all, 1 whitens."""
    scale_inputs: bool = False
    """Multiply item vectors by sqrt(hidden_size) before a transformer; has no effect on a recurrent
    network. Source: Vaswani et al. 2017, section 3.4."""
    encoder: TextStartEncoderConfig = Field(default_factory=TextSASRecEncoderConfig)
    """Sequence encoder."""
    loss: OffsetLossConfig = Field(default_factory=OffsetLossConfig)
    """Ranking loss."""


class TextTowerConfig(SequenceConfig):
    """Configuration of TextTower."""

    learning_rate: float = Field(2e-3, gt=0)
    """Peak learning rate of AdamW."""
    words: WordsConfig = Field(default_factory=WordsConfig)
    """Words of the items."""
    temperature: float = Field(0.07, gt=0)
    """First temperature of the softmax over cosines; it is trained."""
    decay: float = Field(0.6, gt=0, le=1)
    """First weight of a history item relative to the next one; the weights of all ages are trained."""
    history_dropout: float = Field(0.0, ge=0, le=1)
    """Probability in training that an item before the last is left out of a recency-weighted sum."""
    query: Literal["both", "recency"] = "both"
    """The state after a history: the recency-weighted sum of its items' vectors alone, or with the state of
    the sequence encoder added through trained weights, which start at 0."""
    encoder: WordEncoderConfig = Field(default_factory=WordSASRecEncoderConfig)
    """Sequence encoder; unused if query is recency."""
    loss: OffsetLossConfig = Field(default_factory=OffsetLossConfig)
    """Ranking loss."""


def check_part(tower: TextTowerConfig, key: str, system: str) -> None:
    """Checks the configuration of a tower that is part of another system.

    Raises:
        ValueError: its encoder is not causal, or it has a term for repeats, which the system would not use.
    """
    if tower.encoder.kind == "bert4rec":
        raise ValueError(
            f"a tower within {system} needs a causal encoder: set {key}.encoder.kind=sasrec"
        )
    if tower.repeat != "none":
        raise ValueError(f"{key}.repeat has no effect within {system}: set it to none")


class GraphKNNConfig(TextKNNConfig):
    """Configuration of GraphKNN."""

    whitening: float = Field(0.9, ge=0, le=1)
    """Divide each principal component of the text by its standard deviation to this power (`textknn`)."""
    text_weight: float = Field(1.0, ge=0)
    """Weight of the text; with 0 no text embedding is read, and followers alone are ranked."""
    window: int = Field(10, ge=1)
    """Number of items after an item that count as its followers."""
    skip: float = Field(0.7, gt=0, le=1)
    """Weight of a follower relative to one that is a step nearer."""
    followers: int = Field(200, ge=1)
    """Number of followers that are kept of each item, those with the largest counts."""
    follower_weight: float = Field(0.8, ge=0)
    """Score of the follower with the largest count; others in proportion to the logarithm of 1 + count."""
    new_weight: float = Field(1.0, ge=0)
    """A new item has this times the strengths of the items that stand in for it, those with the nearest
    texts: above 1 new items stand higher, at a cost for the trained ones; with 0 it is scored by its text
    alone."""
    max_len: int = Field(10, ge=1)
    """Number of most recent history items that are used."""

    @property
    def embeddings(self) -> tuple[str | None, ...]:
        """See `SystemConfig`: none with `text_weight` 0."""
        return super().embeddings if self.text_weight > 0 else ()


class BSARecConfig(IDConfig):
    """Configuration of BSARec."""

    encoder: BSARecEncoderConfig = Field(default_factory=BSARecEncoderConfig)
    """Sequence encoder."""
