"""Configuration of CITIES."""

from __future__ import annotations

from pydantic import Field

from seqloom.core.config import Config
from seqloom.core.phase import Optimisation
from seqloom.systems.id_only import IDConfig


class InferenceConfig(Config):
    """The network that infers an item's vector from its contexts, and how it is trained."""

    epochs: int = Field(40, ge=0)
    """Most passes over the head items; 0 leaves all rows as they were trained."""
    batch_size: int = Field(128, ge=1)
    """Head items in a batch."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak step size of AdamW."""
    patience: int | None = Field(5, ge=1)
    """Validations without improvement before training stops."""
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

    def optimisation(self) -> Optimisation:
        """The settings of the phase."""
        return Optimisation(
            epochs=self.epochs, learning_rate=self.learning_rate, patience=self.patience
        )


class CITIESConfig(IDConfig):
    """CITIES over any encoder; the first phase trains the recommender as the ID-only system is."""

    inference: InferenceConfig = Field(default_factory=InferenceConfig)
    """The second phase."""
