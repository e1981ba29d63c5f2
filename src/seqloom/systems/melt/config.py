"""Configuration of MELT."""

from __future__ import annotations

from pydantic import Field

from seqloom.core.config import Config
from seqloom.core.phase import Optimisation
from seqloom.systems.base_config import IDConfig


class JointConfig(Config):
    """Last phase: backbone and branches together."""

    epochs: int = Field(60, ge=0)
    """Maximum number of epochs; 0 keeps the backbone of the first phase."""
    learning_rate: float = Field(5e-4, gt=0)
    """Peak learning rate of AdamW."""
    patience: int | None = Field(5, ge=1)
    """Number of validations without improvement after which training stops; null: never."""
    user_weight: float = Field(0.1, ge=0)
    """lambda_U, weight of the user branch's loss. Source: the authors' setting for Beauty."""
    item_weight: float = Field(0.4, ge=0)
    """lambda_I, weight of the item branch's loss. Source: the authors' setting for Beauty."""


class BranchConfig(Config):
    """Phases of the branches alone, on the trained backbone."""

    epochs: int = Field(10, ge=0)
    """Number of epochs over the head users, and over the head items; 0 keeps the initial branches."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate of AdamW, which decays to 0."""


class MELTConfig(IDConfig):
    """Configuration of MELT; its first phase trains the ID-only system of the same encoder."""

    branches: BranchConfig = Field(default_factory=BranchConfig)
    """Phases of the branches alone."""
    joint: JointConfig = Field(default_factory=JointConfig)
    """Last phase: joint training."""

    def joint_optimisation(self) -> Optimisation:
        """Returns the settings of the last phase."""
        return self.optimisation().model_copy(
            update={
                "epochs": self.joint.epochs,
                "learning_rate": self.joint.learning_rate,
                "patience": self.joint.patience,
                "patience_steps": 0,
            }
        )
