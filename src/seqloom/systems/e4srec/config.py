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
from seqloom.systems.config import TextTowerConfig, check_part


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


class TextSideConfig(TextTowerConfig):
    """The words of the candidates and histories, and their training before the language model's."""

    query: Literal["both", "recency"] = "recency"
    """The text of a history: the recency-weighted sum of its items' vectors alone, or with the state of a
    small sequence encoder added through trained weights, which start at 0."""


class E4SRecConfig(SystemConfig):
    """Configuration of E4SRec."""

    former_defaults: ClassVar[Mapping[str, Any]] = {"add_giver": False, "candidates": "ids"}

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
    averaging: float | None = Field(None, ge=1)
    """Validate and keep a running mean of the weights, in which step t has a weight of about
    t ** (averaging - 1); null uses the weights themselves, as in the paper."""
    loss: LossConfig = Field(default_factory=LossConfig)
    """candidates=ids: ranking loss, in the paper softmax over the catalogue. With words it is tower.loss."""
    candidates: Literal["ids", "words"] = "words"
    """What the state after a history is compared with. ids: a trained row of each item, as in the paper.
    words: the vector of the item's text, whose words learn from the log; the language model reads ID and
    text, and its state is added to the text of the history through trained weights, which start at 0."""
    tower: TextSideConfig = Field(default_factory=TextSideConfig)
    """candidates=words: the words, and the phase in which they learn before the language model does; its
    seed and encoder.max_len are those of the run. With tower.epochs=0 all learn together."""
    use_llm: bool = True
    """candidates=words: false leaves the language model out, to measure what it contributes."""
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
    chooses the weight of E4SRec's own, 0 included. false: E4SRec's own alone, as in the paper."""
    blend: float = Field(0.5, ge=0)
    """add_giver: weight of E4SRec's own score in the validations of training; after it, validation
    chooses. From 1,000 on it is the only score."""
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
        if self.candidates == "ids" and not self.use_llm:
            raise ValueError(
                "candidates=ids has no score without the language model: set use_llm=true"
            )
        if self.candidates == "words" and not self.use_llm and self.tower.epochs == 0:
            raise ValueError("use_llm=false and tower.epochs=0 train nothing: change one of them")
        check_part(self.tower, "tower", "E4SRec")
        return self

    @property
    def ranking_loss(self) -> LossConfig:
        """The ranking loss of the phase that trains the language model."""
        return self.tower.loss if self.candidates == "words" else self.loss

    @property
    def item_vector_source(self) -> IdsConfig:
        """See `core.protocols.TakesItemVectors`."""
        return self.ids

    def optimisation(self) -> Optimisation:
        """Returns the settings of the one phase."""
        return Optimisation.of(self)
