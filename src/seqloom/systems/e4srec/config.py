"""Configuration of E4SRec, with a key for every variant that the paper tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from seqloom.core.config import Config
from seqloom.core.phase import Optimisation
from seqloom.data.options import LongHistories
from seqloom.llm.config import LanguageModelConfig, LoraSettings
from seqloom.systems.base_config import LossConfig, SystemConfig


class IdsConfig(Config):
    """Source of the frozen item-ID embeddings."""

    run: str | None = None
    """Folder of a trained run of the same data set that scores by dot products; its item vectors are
    copied. null: train `system` first, in the folder `ids` of the run."""
    system: str = "sasrec"
    """System to train if no run is given."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Configuration of that system."""


class PromptConfig(Config):
    """The text around the history."""

    instruction: str = (
        "Given the user's purchase history, predict the next possible item to be purchased."
    )
    """Instruction to the language model. Source: E4SRec, section 3.3."""


class E4SRecConfig(SystemConfig):
    """Configuration of E4SRec."""

    former_defaults: ClassVar[Mapping[str, Any]] = {"add_giver": False}

    epochs: int = Field(12, ge=0)
    """Maximum number of epochs; early stopping may end training sooner."""
    batch_size: int = Field(64, ge=1)
    """Number of histories in a batch (in mode prompt: of prompts, each with one target)."""
    learning_rate: float = Field(5e-4, gt=0)
    """Peak learning rate of AdamW; the paper uses 3e-4 for batches of 16 prompts."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay; the paper uses none."""
    warmup_steps: int = Field(100, ge=0)
    """Steps of linear warm-up of the learning rate. Source: E4SRec, section 4.1.4."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Course of the step size after warm-up; cosine decays to 0 at the last of all epochs."""
    clip_norm: float | None = Field(1.0, gt=0)
    """Maximum norm of the gradient of all parameters; null does not clip."""
    patience: int | None = Field(3, ge=1)
    """Number of validations without improvement after which training stops; null: never, as in the paper."""
    mode: Literal["causal", "prompt"] = "causal"
    """causal: every position of a history predicts the next item, in one pass. prompt (as in the paper):
    one prompt for each target, with response tokens before the prediction."""
    max_len: int = Field(50, ge=1)
    """Maximum length of a history; older items are dropped. Source: E4SRec, section 4.1.4."""
    long_histories: LongHistories = "windows"
    """How mode causal trains on a history longer than max_len: cut it into windows, or use its last part."""
    loss: LossConfig = Field(default_factory=LossConfig)
    """Ranking loss; the paper uses softmax over the catalogue."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout rate on the projected ID embeddings and on the states before the score head; the paper has
    dropout in the adapters only."""
    start: Literal["ids", "random"] = "ids"
    """Initial projection and score head. ids: rotate the ID embeddings into the space of the language
    model; random: as in the paper."""
    scale_ids: bool = True
    """Scale the ID embeddings to mean square 1, so that dropout, learning rate and initialisation do not
    depend on the recommender that they come from; false: leave them unchanged, as in the paper."""
    train_adapter: bool = True
    """Train LoRA adapters in the language model; false: train projection and head only."""
    add_giver: bool = True
    """Add the score of the recommender that gave the IDs. Each score is trained apart, and validation
    chooses the weight of the language model's, 0 included. false: the language model alone, as in the
    paper."""
    blend: float = Field(0.5, ge=0)
    """add_giver: weight of the language model's score in the validations of training; after it, validation
    chooses."""
    llm: LanguageModelConfig = Field(default_factory=LanguageModelConfig)
    """Language model."""
    lora: LoraSettings = Field(default_factory=LoraSettings)
    """LoRA adapters."""
    ids: IdsConfig = Field(default_factory=IdsConfig)
    """Item-ID embeddings."""
    prompt: PromptConfig = Field(default_factory=PromptConfig)
    """Prompt."""

    @model_validator(mode="after")
    def _fits(self) -> E4SRecConfig:
        if self.llm.kind == "bidirectional" and self.mode == "causal":
            raise ValueError(
                "a bidirectional language model sees later items, so it needs mode=prompt"
            )
        return self

    @property
    def item_vector_source(self) -> IdsConfig:
        """See `core.protocols.TakesItemVectors`."""
        return self.ids

    def optimisation(self) -> Optimisation:
        """Returns the settings of the one phase."""
        return Optimisation.of(self)
