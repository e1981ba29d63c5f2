"""Configuration of LLM-ESR, with a key for every ablation of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from seqloom.backbones.config import TextSASRecEncoderConfig, TextStartEncoderConfig
from seqloom.core.config import Config
from seqloom.systems.base_config import OffsetLossConfig, SequenceConfig
from seqloom.systems.config import TextTowerConfig

_ADAPTER = ("adapter_layers", "adapter_size", "adapter_start", "text_scale", "trained_text")
_KEYS_OF = {
    "tower": ("blend",),
    "recency": ("whitening", "blend"),
    "shared": _ADAPTER,
}
"""The keys of a semantic view that each of its encoders reads, beside the section of the tower."""


class SemanticConfig(Config):
    """The semantic view: the texts of items and histories."""

    encoder: Literal["tower", "recency", "shared"] = "tower"
    """What encodes the texts of a history. shared: the sequence encoder reads adapted vectors of the text
    embedding, and the views attend to each other, as in the paper. With the others the views learn apart
    and their scores are added. tower: a text tower, whose words learn from the log. recency: a sum
    of the text embedding's vectors at their full width, with one learned weight for each step back."""
    tower: TextTowerConfig = Field(default_factory=TextTowerConfig)
    """tower: its configuration; its seed and encoder.max_len are those of the run."""
    whitening: float = Field(0.75, ge=0, le=1)
    """recency: divide each principal component of the text by its standard deviation to this power."""
    blend: float = Field(0.5, ge=0)
    """tower, recency: weight of the semantic score in the validations of training; after it, validation
    chooses. From 1,000 on it is the only score."""
    adapter_layers: Literal[1, 2] = 2
    """Number of linear layers of the adapter, without activation between them. Source: LLM-ESR, eq. 2."""
    adapter_size: int | None = Field(None, ge=1)
    """Width between the two layers; null: half the text width, as in the paper."""
    adapter_start: Literal["pca", "random"] = "pca"
    """Initial adapter: a projection on the principal axes of the text, or random."""
    text_scale: float = Field(0.1, gt=0)
    """Factor on the text before the adapter, whose initial weights are divided by it. Adam's steps do not
    depend on the size of the weights, so a small factor makes the adapter change slowly."""
    trained_text: bool = False
    """Also train the text embedding (an ablation of the paper)."""

    @model_validator(mode="after")
    def _check_tower(self) -> Self:
        if self.tower.encoder.kind == "bert4rec":
            raise ValueError(
                "a tower within LLM-ESR needs a causal encoder: set tower.encoder.kind=sasrec"
            )
        if self.tower.repeat != "none":
            raise ValueError(
                "tower.repeat has no effect within LLM-ESR: set repeat of the run instead"
            )
        return self

    @model_validator(mode="after")
    def _keys_are_used(self) -> Self:
        """Refuses keys of another encoder, which would change nothing."""
        used = {"encoder", "tower", *_KEYS_OF[self.encoder]}
        for name, field in type(self).model_fields.items():
            if name in used or getattr(self, name) == field.get_default(call_default_factory=True):
                continue
            others = [encoder for encoder, keys in _KEYS_OF.items() if name in keys]
            raise ValueError(
                f"{name} has no effect with encoder={self.encoder}: leave it out, or set "
                f"encoder={' or '.join(others)}"
            )
        return self


class FusionConfig(Config):
    """Sequence-level fusion of the two views."""

    cross_attention: bool = True
    """Let the views attend to each other before the encoder."""
    num_heads: int = Field(2, ge=1)
    """Number of heads of the cross-attention."""
    residual: bool = True
    """Add each view to the output of its cross-attention; the paper has no residual."""
    weight_std: float = Field(0.005, gt=0)
    """Standard deviation of the initial weight matrices of the cross-attention."""


class DistillationConfig(Config):
    """Retrieval-augmented self-distillation. Source: LLM-ESR, section 3.4."""

    alpha: float = Field(0.0, ge=0)
    """Weight of the distillation loss; 0 disables it. The paper's is 0.1."""
    num_similar: int = Field(10, ge=1)
    """N, the number of similar users whose mean state is the teacher."""
    search: Literal["exact", "approximate"] = "exact"
    """How to find similar users: compare all with all, or use an index (faiss, the extra `ann`) for
    hundreds of thousands of users. The recall of the index is measured, logged and stored with the result."""
    recall: float = Field(0.95, gt=0, le=1)
    """Target recall of the approximate search: the share of the similar users that it finds."""
    kind: Literal["mse", "contrast"] = "mse"
    """mse: squared distance to the teacher. contrast: tell it apart from the other teachers of the batch."""
    temperature: float = Field(0.1, gt=0)
    """Softmax temperature of kind contrast."""
    teacher: Literal["epoch", "step"] = "epoch"
    """When to encode the similar users: at the start of an epoch, or at every step (as in the paper, at
    about N times the encoder's cost)."""


class LLMESRConfig(SequenceConfig):
    """Configuration of LLM-ESR."""

    former_defaults: ClassVar[Mapping[str, Any]] = {"semantic.encoder": "shared"}

    encoder: TextStartEncoderConfig = Field(default_factory=TextSASRecEncoderConfig)
    """Sequence encoder."""
    loss: OffsetLossConfig = Field(default_factory=OffsetLossConfig)
    """Ranking loss."""
    text: str | None = None
    """Name of the text embedding; null: the default one of the data set."""
    views: Literal["both", "collaborative", "semantic"] = "both"
    """Views that score; a single one is an ablation of the paper."""
    collaborative_start: Literal["pca", "random"] = "pca"
    """Initial item table: the principal components of the text, or random."""
    collaborative_text: str | None = None
    """Name of the text embedding whose components initialise the item table; null: that of `text`."""
    initial_std: float = Field(0.07, gt=0)
    """Standard deviation of the initial item table and the initial semantic vectors."""
    whitening: float = Field(0.5, ge=0, le=1)
    """Divide the principal components that initialise both views by their standard deviation to this
    power: at 0 the first few components decide what is similar, at 1 all count equally."""
    scale_inputs: bool = False
    """Multiply item vectors by sqrt(hidden_size) before a transformer, as in the paper; has no effect on a
    recurrent network."""
    shared_encoder: bool = True
    """Use one encoder for both views; false: one for each."""
    semantic: SemanticConfig = Field(default_factory=SemanticConfig)
    """Semantic view."""
    fusion: FusionConfig = Field(default_factory=FusionConfig)
    """Sequence-level fusion."""
    distillation: DistillationConfig = Field(default_factory=DistillationConfig)
    """Self-distillation between similar users."""

    @property
    def table_text(self) -> str | None:
        """Name of the text embedding that starts the item table."""
        return self.text if self.collaborative_text is None else self.collaborative_text

    @property
    def embeddings(self) -> tuple[str | None, ...]:
        """See `SystemConfig`; the one of `text` first, if views or distillation read it."""
        table = self.views != "semantic" and self.collaborative_start == "pca"
        views = self.views != "collaborative" and self.semantic.encoder != "tower"
        read = [self.text] if views or self.distillation.alpha > 0 else []
        return tuple(dict.fromkeys([*read, self.table_text] if table else read))
