"""Configuration of E4SRec; every variant that the paper tests is a key."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from seqloom.core.config import Config
from seqloom.core.phase import Optimisation
from seqloom.data.batches import LongHistories
from seqloom.llm.plugins.shared_base import LoraSettings
from seqloom.llm.reference import LanguageModelConfig
from seqloom.systems.base import SystemConfig
from seqloom.systems.ranking_loss import LossConfig


class IdsConfig(Config):
    """Where the frozen item-ID embeddings come from."""

    run: str | None = None
    """Folder of a trained run of the same data set whose score is a dot product; its item vectors are
    taken. Without it, `system` is trained first, into the folder `ids` of the run."""
    system: str = "sasrec"
    """What to train where no run is given."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Its configuration keys."""


class PromptConfig(Config):
    """What stands around the history."""

    instruction: str = (
        "Given the user's purchase history, predict the next possible item to be purchased."
    )
    """The task. Source: E4SRec, section 3.3."""


class E4SRecConfig(SystemConfig):
    """Configuration of E4SRec."""

    epochs: int = Field(12, ge=0)
    """Most epochs; early stopping may end sooner."""
    batch_size: int = Field(64, ge=1)
    """Histories in a batch (in mode prompt: prompts, each with one target)."""
    learning_rate: float = Field(5e-4, gt=0)
    """Peak step size of AdamW; the paper has 3e-4 for batches of 16 prompts."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay; the paper has none."""
    warmup_steps: int = Field(100, ge=0)
    """Steps over which the step size rises from 0. Source: E4SRec, section 4.1.4."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Course of the step size after warm-up; cosine falls to 0 at the last of all epochs."""
    clip_norm: float | None = Field(1.0, gt=0)
    """Largest norm of all gradients together."""
    patience: int | None = Field(3, ge=1)
    """Validations without improvement before training stops; never if not given, as in the paper."""
    mode: Literal["causal", "prompt"] = "causal"
    """causal: every item position of a history predicts the next item, in one pass. prompt (the
    paper's): one prompt for each target, and response tokens before the prediction."""
    max_len: int = Field(50, ge=1)
    """Longest history read; older items are cut off. Source: E4SRec, section 4.1.4."""
    long_histories: LongHistories = "windows"
    """In mode causal, a history longer than `max_len` is trained on in windows, or by its last part."""
    loss: LossConfig = Field(default_factory=LossConfig)
    """The ranking loss; the paper's is softmax over the catalogue."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout on the projected ID embeddings and on the states before the score head; the paper has none
    beside the adapters'."""
    start: Literal["ids", "random"] = "ids"
    """Projection and score head start from the ID embeddings turned into the language model's space by
    one rotation, or at random as in the paper."""
    scale_ids: bool = True
    """Scale the ID embeddings to mean square 1, so that dropout, step size and start mean the same whatever
    recommender they are of; false reads them as they are, as the paper does."""
    train_adapter: bool = True
    """Train LoRA adapters in the language model; without them only projection and head are trained."""
    llm: LanguageModelConfig = Field(default_factory=LanguageModelConfig)
    """The language model."""
    lora: LoraSettings = Field(default_factory=LoraSettings)
    """The adapters."""
    ids: IdsConfig = Field(default_factory=IdsConfig)
    """The item-ID embeddings."""
    prompt: PromptConfig = Field(default_factory=PromptConfig)
    """The prompt."""

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
