"""Configuration of LLM-ESR; every ablation of the paper is a key."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seqloom.backbones.config import TextSASRecEncoderConfig, TextStartEncoderConfig
from seqloom.core.config import Config
from seqloom.systems.ranking_loss import OffsetLossConfig
from seqloom.systems.sequence import SequenceConfig


class SemanticConfig(Config):
    """The semantic view: frozen text embeddings through an adapter."""

    adapter_layers: Literal[1, 2] = 2
    """Linear layers of the adapter, without activation between them. Source: LLM-ESR, eq. 2."""
    adapter_size: int | None = Field(None, ge=1)
    """Width between the two layers; half the text width if not given, as in the paper."""
    adapter_start: Literal["pca", "random"] = "pca"
    """The adapter starts as a projection on the text's principal axes, or at random."""
    text_scale: float = Field(0.1, gt=0)
    """Factor on the text before the adapter, which starts that much larger. Adam's steps have the size
    of the learning rate whatever the size of the weights, so a small factor lets the adapter move slowly."""
    trained_text: bool = False
    """Train the text embedding too (an ablation of the paper)."""


class FusionConfig(Config):
    """Sequence-level fusion of the two views."""

    cross_attention: bool = True
    """Whether the views attend to each other before the encoder."""
    num_heads: int = Field(2, ge=1)
    """Heads of the cross-attention."""
    residual: bool = True
    """Add each view to what was attended from it; the paper has no residual."""
    weight_std: float = Field(0.005, gt=0)
    """Standard deviation of the cross-attention's weight matrices at the start."""


class DistillationConfig(Config):
    """Retrieval-augmented self-distillation. Source: LLM-ESR, section 3.4."""

    alpha: float = Field(0.1, ge=0)
    """Weight of the distillation loss; 0 turns it off."""
    num_similar: int = Field(10, ge=1)
    """N, similar users whose mean state is the teacher."""
    search: Literal["exact", "approximate"] = "exact"
    """How similar users are found: all compared with all, or by an index (faiss, the extra `ann`), for
    hundreds of thousands of users. What the index finds is measured, logged and kept with the result."""
    recall: float = Field(0.95, gt=0, le=1)
    """Of an approximate search: the share of the similar users that it is set up to find."""
    kind: Literal["mse", "contrast"] = "mse"
    """Squared distance to the teacher, or telling it from the teachers of the rest of the batch."""
    temperature: float = Field(0.1, gt=0)
    """Of the contrast."""
    teacher: Literal["epoch", "step"] = "epoch"
    """Similar users' states from the weights at the epoch's start, or encoded anew at every step
    (the paper; about N times the encoder's cost)."""


class LLMESRConfig(SequenceConfig):
    """Configuration of LLM-ESR."""

    encoder: TextStartEncoderConfig = Field(default_factory=TextSASRecEncoderConfig)
    """The sequence encoder."""
    loss: OffsetLossConfig = Field(default_factory=OffsetLossConfig)
    """The ranking loss."""
    text: str | None = None
    """Name of the text embedding; the data set's default one if not given."""
    views: Literal["both", "collaborative", "semantic"] = "both"
    """Which views score; one alone is an ablation of the paper."""
    collaborative_start: Literal["pca", "random"] = "pca"
    """The item table starts as the principal components of the text, or at random."""
    collaborative_text: str | None = None
    """Name of the text embedding whose components start the item table; `text` if not given."""
    initial_std: float = Field(0.07, gt=0)
    """Standard deviation of the item table and of the semantic vectors at the start."""
    whitening: float = Field(0.5, ge=0, le=1)
    """Both start from principal components divided by their standard deviation to this power: at 0 the
    first few decide what is similar, at 1 all count alike."""
    scale_inputs: bool = False
    """Multiply item vectors by sqrt(hidden_size) before a transformer, as the paper does; a recurrent network
    takes them as they are."""
    shared_encoder: bool = True
    """One encoder for both views, or one each."""
    semantic: SemanticConfig = Field(default_factory=SemanticConfig)
    """The semantic view."""
    fusion: FusionConfig = Field(default_factory=FusionConfig)
    """Sequence-level fusion."""
    distillation: DistillationConfig = Field(default_factory=DistillationConfig)
    """Self-distillation."""
