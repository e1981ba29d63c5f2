"""Configuration of MELT."""

from __future__ import annotations

from pydantic import Field

from seqloom.core.config import Config
from seqloom.core.phase import Optimisation
from seqloom.systems.id_only import IDConfig


class JointConfig(Config):
    """The last phase: backbone and branches together."""

    epochs: int = Field(60, ge=0)
    """Most epochs; 0 leaves the backbone as the first phase trained it."""
    learning_rate: float = Field(5e-4, gt=0)
    """Peak step size of AdamW."""
    patience: int | None = Field(5, ge=1)
    """Validations without improvement before training stops."""
    user_weight: float = Field(0.1, ge=0)
    """lambda_U, weight of the user branch's loss. Source: the authors' setting for Beauty."""
    item_weight: float = Field(0.4, ge=0)
    """lambda_I, weight of the item branch's loss. Source: the authors' setting for Beauty."""


class BranchConfig(Config):
    """The phases of the branches alone, on the trained backbone."""

    epochs: int = Field(10, ge=0)
    """Passes over the head users, and over the head items; 0 keeps the branches as they start."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak step size of AdamW; it falls to 0."""


class MELTConfig(IDConfig):
    """MELT over any encoder; the first phase trains the backbone as the ID-only system is."""

    branches: BranchConfig = Field(default_factory=BranchConfig)
    """The phases of the branches alone."""
    joint: JointConfig = Field(default_factory=JointConfig)
    """The last phase."""

    def joint_optimisation(self) -> Optimisation:
        """The settings of the last phase."""
        return self.optimisation().model_copy(
            update={
                "epochs": self.joint.epochs,
                "learning_rate": self.joint.learning_rate,
                "patience": self.joint.patience,
            }
        )
