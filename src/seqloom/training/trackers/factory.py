"""Chooses a tracker by its name."""

from __future__ import annotations

from seqloom.core.errors import ConfigError
from seqloom.core.suggestions import suggest
from seqloom.training.trackers.base import Tracker
from seqloom.training.trackers.mlflow_tracker import MLflowTracker
from seqloom.training.trackers.wandb_tracker import WandbTracker

TRACKERS = ("mlflow", "wandb")


def build_tracker(name: str) -> Tracker:
    """Builds a tracker by its name.

    Raises:
        ConfigError: there is none of this name, or its library is not installed.
    """
    if name == "mlflow":
        return MLflowTracker()
    if name == "wandb":
        return WandbTracker()
    raise ConfigError(
        f"there is no tracker {name!r}{suggest(name, TRACKERS)} (allowed: {', '.join(TRACKERS)})"
    )
