"""The result of `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqloom.core.config import Config
from seqloom.core.tabular import Tabular
from seqloom.runs.manifest import RunManifest


class TrainSummary(Tabular, Config):
    """The result of `train`."""

    run: str
    """The run's folder."""
    system: str
    epochs: int
    seconds_per_epoch: list[float]
    targets_per_epoch: int
    seconds_total: float
    peak_rss_mb: float
    parameters: int
    trained_parameters: int
    best_phase: str | None
    """The phase of the weights that were kept."""
    best_epoch: int | None
    """The epoch of that phase."""
    valid: dict[str, float]
    """Validation metrics of the weights that were kept."""

    def headline(self) -> str:
        """Returns which run was trained, on one line."""
        return f"Trained {self.system} into {self.run}"

    def facts(self) -> dict[str, Any]:
        """Returns the length of the training and the validation metrics."""
        valid = {f"validation {name}": value for name, value in self.valid.items()}
        return {
            "epochs": self.epochs,
            "best epoch": self.best_epoch,
            "seconds": self.seconds_total,
            "parameters": self.parameters,
            **valid,
        }


def train_summary(out: Path, manifest: RunManifest) -> TrainSummary:
    """Returns the result of `train` from the manifest of a complete run."""
    cost = manifest.cost
    return TrainSummary(
        run=str(out),
        system=manifest.system,
        epochs=cost.epochs,
        seconds_per_epoch=cost.seconds_per_epoch,
        targets_per_epoch=cost.targets_per_epoch,
        seconds_total=cost.seconds_total,
        peak_rss_mb=cost.peak_rss_mb,
        parameters=manifest.parameters,
        trained_parameters=manifest.trained_parameters,
        best_phase=manifest.best_phase,
        best_epoch=manifest.best_epoch,
        valid=manifest.valid,
    )
