"""Configuration of CITIES."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from seqloom.core.config import Config
from seqloom.core.phase import Optimisation
from seqloom.systems.id_only import IDConfig


class InferenceConfig(Config):
    """The network that infers an item's vector from its contexts, and how it is trained."""

    tail_below: int | None = Field(5, ge=2)
    """Items with fewer training events are completed, the others teach. Source: Jang et al., ICDM 2020. null:
    the threshold of the data set, under which four fifths of the items lie."""
    epochs: int = Field(40, ge=0)
    """Passes over the items that teach; 0 leaves all rows as they were trained."""
    batch_size: int = Field(32, ge=1)
    """Items in a batch."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak step size of AdamW; it falls to 0."""
    max_contexts: int = Field(10, ge=1)
    """Most contexts of an item. Source: Jang et al., ICDM 2020; the authors' MAX_N_SHOT."""
    reach: int = Field(8, ge=1)
    """Items read before and after an occurrence; the authors read 24."""
    num_layers: int = Field(1, ge=1)
    """Blocks over a context, and again over the contexts."""
    num_heads: int = Field(2, ge=1)
    """Attention heads; must divide encoder.hidden_size."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout in the blocks."""

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, values: Any) -> Any:
        """Read runs that have `patience`: nothing but `epochs` ends the phase any more."""
        if isinstance(values, dict):
            return {key: value for key, value in values.items() if key != "patience"}
        return values

    def optimisation(self) -> Optimisation:
        """The settings of the phase."""
        return Optimisation(epochs=self.epochs, learning_rate=self.learning_rate, schedule="cosine")


class CITIESConfig(IDConfig):
    """CITIES over any encoder; the first phase trains the recommender as the ID-only system is."""

    inference: InferenceConfig = Field(default_factory=InferenceConfig)
    """The second phase."""
