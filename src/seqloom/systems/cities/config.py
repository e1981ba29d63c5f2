"""Configuration of CITIES."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from seqloom.core.config import Config
from seqloom.core.phase import Optimisation
from seqloom.systems.base_config import IDConfig


class InferenceConfig(Config):
    """The network that infers an item's vector from its contexts, and its training."""

    tail_below: int | None = Field(5, ge=2)
    """Infer the vectors of items with fewer training events, and learn from the others. null: the
    threshold of the data set, below which 80 % of the items lie. Source: Jang et al., ICDM 2020."""
    epochs: int = Field(40, ge=0)
    """Number of epochs over the items to learn from; 0 keeps all vectors as trained."""
    batch_size: int = Field(32, ge=1)
    """Number of items in a batch."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate of AdamW, which decays to 0."""
    max_contexts: int = Field(10, ge=1)
    """Maximum number of contexts of an item. Source: Jang et al., ICDM 2020; the authors' MAX_N_SHOT."""
    reach: int = Field(8, ge=1)
    """Number of items read before and after an occurrence; the authors read 24."""
    num_layers: int = Field(1, ge=1)
    """Number of transformer blocks over a context, and again over the contexts."""
    num_heads: int = Field(2, ge=1)
    """Number of attention heads; must divide encoder.hidden_size."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout rate in the blocks."""

    @model_validator(mode="before")
    @classmethod
    def _read_earlier_versions(cls, values: Any) -> Any:
        """Drops `patience`, which runs of earlier versions have."""
        if isinstance(values, dict):
            return {key: value for key, value in values.items() if key != "patience"}
        return values

    def optimisation(self) -> Optimisation:
        """Returns the settings of the phase."""
        return Optimisation(epochs=self.epochs, learning_rate=self.learning_rate, schedule="cosine")


class CITIESConfig(IDConfig):
    """Configuration of CITIES; its first phase trains the ID-only system of the same encoder."""

    inference: InferenceConfig = Field(default_factory=InferenceConfig)
    """Second phase: inferring item vectors."""
