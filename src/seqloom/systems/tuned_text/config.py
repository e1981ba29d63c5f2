"""Configuration of the tuning of text encoders."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seqloom.core.config import Config
from seqloom.core.phase import Optimisation, Schedule
from seqloom.llm.plugins.shared_base import LoraSettings
from seqloom.text.options import Pooling
from seqloom.text.words.config import WordsConfig


class TuningConfig(Config):
    """Configuration keys of every kind of encoder."""

    seed: int = 42
    """Seed of all random numbers."""
    batch_size: int = Field(128, ge=1)
    """Number of histories in a batch; every item after the first is a target."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay."""
    warmup_steps: int = Field(0, ge=0)
    """Steps of linear warm-up of the learning rate."""
    schedule: Schedule = "cosine"
    """Learning rate after warm-up; cosine decays to 0 at the last of all `epochs`."""
    clip_norm: float | None = Field(None, gt=0)
    """Maximum norm of the gradient of all parameters; null does not clip."""
    averaging: float | None = Field(None, ge=1)
    """Validate and keep a running mean of the weights, in which step t has a weight of about
    t ** (averaging - 1); null uses the weights themselves."""
    patience: int | None = Field(3, ge=1)
    """Number of validations without improvement after which tuning stops; null: never."""
    temperature: float = Field(0.07, gt=0)
    """First temperature of the softmax over cosines; it is trained."""
    decay: float = Field(0.6, gt=0, le=1)
    """First weight of a history item relative to the next one; the weights of all ages are trained."""
    history_dropout: float = Field(0.0, ge=0, le=1)
    """Probability in training that an item before the last is left out of a recency-weighted sum."""
    max_len: int = Field(50, ge=1)
    """Number of most recent history items that a target is predicted from."""
    whitening: float = Field(0.75, ge=0, le=1)
    """Key `whitening` of the textknn that validates."""

    def optimisation(self) -> Optimisation:
        """Returns the settings of the phase."""
        return Optimisation.of(self)


class StaticTuningConfig(TuningConfig):
    """Configuration of word vectors."""

    kind: Literal["static"] = "static"
    """Kind of encoder."""
    epochs: int = Field(6, ge=1)
    """Passes over the histories."""
    learning_rate: float = Field(2e-3, gt=0)
    """Peak learning rate of AdamW."""
    width: int = Field(128, ge=1)
    """Width of the vectors."""
    popularity_offset: float = Field(0.5, ge=0)
    """Add this times log(count + 1) to an item's logit in training, so that vectors need not express how
    popular an item is."""
    words: WordsConfig = Field(default_factory=WordsConfig)
    """Words and their first vectors. `tune-encoder --encoder` sets `words.tokenizer`. Without `words.pairs`
    the result is a folder of sentence-transformers; with them only seqloom reads it."""


class LanguageModelTuningConfig(TuningConfig):
    """Configuration keys of the kinds that train a language model."""

    clip_norm: float | None = Field(1.0, gt=0)
    """Maximum norm of the gradient of all parameters; null does not clip."""
    warmup_steps: int = Field(20, ge=0)
    """Steps of linear warm-up of the learning rate."""
    start: Literal["pretrained", "random"] = "pretrained"
    """Pretrained weights, or random ones of the same shape, to measure what pretraining contributes."""
    template: str = "full"
    """Item text: `full` (all text columns), `title`, a file, or a text with {column} placeholders."""
    pooling: Pooling = "mean"
    """How hidden states become a vector, for models without a pooling of their own: mean, last or cls."""
    max_tokens: int = Field(64, ge=4)
    """Truncates texts to this many tokens in tuning."""
    chunk: int = Field(64, ge=1)
    """Texts encoded at a time. Only one chunk's activations are in memory: those of several are computed
    again for the gradients, so that the batch can be of any size. Source: Gao et al. 2021 (arXiv
    2101.06983)."""
    layers: int | None = Field(None, ge=1)
    """Train only this many of the last layers; null: all."""
    lora: LoraSettings | None = None
    """Train low-rank adapters, merged into the model at the end; null: the weights themselves."""
    teacher: str | None = None
    """Folder of an encoder, such as word vectors that the log tuned. transformer: its similarities within the
    batch are learned as well; distilled: its vectors are part of the table's start."""


class TransformerTuningConfig(LanguageModelTuningConfig):
    """Configuration of a language model that learns from the histories of a batch."""

    kind: Literal["transformer"] = "transformer"
    """Kind of encoder."""
    epochs: int = Field(1, ge=1)
    """Passes over the histories."""
    steps_per_epoch: int | None = Field(None, ge=1)
    """Number of batches of an epoch, after which a validation follows; null: all histories."""
    batch_size: int = Field(32, ge=1)
    """Number of histories in a batch. The distinct items of a batch are each other's negatives."""
    learning_rate: float = Field(5e-5, gt=0)
    """Peak learning rate of AdamW."""
    max_len: int = Field(10, ge=1)
    """Number of most recent history items that a target is predicted from."""
    negatives: int = Field(128, ge=0)
    """Mined negatives of a batch, besides its own items, at most one a target: neighbours of the batch's
    targets by the vectors of the last validation."""
    correction: float = Field(1.0, ge=0)
    """Subtract this times log(count + 1) from an item's logit, because popular items are in a batch more
    often. Source: Yi et al., RecSys 2019, section 4."""
    teacher_weight: float = Field(0.5, ge=0)
    """Weight of that part of the loss."""


class TableConfig(Config):
    """Configuration of the table of item vectors that a language model learns by distillation."""

    epochs: int = Field(4, ge=1)
    """Most passes over the histories."""
    patience: int | None = Field(1, ge=1)
    """Number of validations without improvement after which the table is complete; null: never."""
    batch_size: int = Field(128, ge=1)
    """Number of histories in a batch; every item after the first is a target."""
    learning_rate: float = Field(5e-4, gt=0)
    """Learning rate of AdamW."""
    popularity_offset: float = Field(0.5, ge=0)
    """Add this times log(count + 1) to an item's logit in training, so that vectors need not express how
    popular an item is."""
    whitening: float = Field(0.75, ge=0, le=1)
    """Whitening of the model's own vectors at the start of the table, as in textknn."""
    teacher_share: float = Field(0.7, ge=0, le=1)
    """Share of the teacher's vectors in the similarities at the start; the model's own have the rest."""
    temperature: float = Field(0.07, gt=0)
    """First temperature of the softmax over cosines with the table; it is trained."""


class DistilledTuningConfig(LanguageModelTuningConfig):
    """Configuration of a language model that learns a table of item vectors from their texts."""

    kind: Literal["distilled"] = "distilled"
    """Kind of encoder."""
    epochs: int = Field(20, ge=1)
    """Passes over the items' texts."""
    validate_every: int = Field(4, ge=1)
    """Number of passes between validations; the last pass is followed by one as well."""
    batch_size: int = Field(64, ge=1)
    """Number of texts in a batch."""
    learning_rate: float = Field(5e-4, gt=0)
    """Peak learning rate of AdamW."""
    temperature: float = Field(0.05, gt=0)
    """Temperature of the softmax over a text's similarities to the table."""
    whitening: float = Field(0.0, ge=0, le=1)
    """Key `whitening` of the textknn that validates. The vectors are learned for cosines as they are."""
    table: TableConfig = Field(default_factory=TableConfig)
    """The table that the log trains first."""


AnyTuningConfig = StaticTuningConfig | TransformerTuningConfig | DistilledTuningConfig
"""The configuration of any kind."""

TUNING_CONFIGS: dict[str, type[AnyTuningConfig]] = {
    "static": StaticTuningConfig,
    "transformer": TransformerTuningConfig,
    "distilled": DistilledTuningConfig,
}
"""The configuration class of each kind."""
