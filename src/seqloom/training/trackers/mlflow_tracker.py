"""MLflow: a run of an experiment, by the client's own settings (MLFLOW_TRACKING_URI and others)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqloom.core.errors import ConfigError
from seqloom.training.trackers.base import PROJECT, Subject, import_library

_LONGEST_VALUE = 500
_AT_ONCE = 100
"""Parameters of one request, the limit of MLflow's interface."""


class MLflowTracker:
    """Records a run in MLflow. `@` of metric names is written `_at_`, which MLflow requires."""

    name = "mlflow"

    def __init__(self) -> None:
        self._mlflow = import_library("mlflow")
        self._client: Any = None
        self._run = ""

    def open(self, subject: Subject, key: str | None) -> str:
        """See `Tracker`."""
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        try:
            self._client = self._mlflow.MlflowClient()
            if key is not None:
                self._client.update_run(key, status="RUNNING")
                self._run = key
                return key
            found = self._client.get_experiment_by_name(experiment)
            number = (
                self._client.create_experiment(experiment) if found is None else found.experiment_id
            )
            run = self._client.create_run(number, run_name=subject.name, tags=dict(subject.tags))
            self._run = run.info.run_id
            self._log_parameters(subject.parameters)
        except self._mlflow.exceptions.MlflowException as error:
            first = str(error).splitlines()[0]
            raise ConfigError(f"MLflow at {self._mlflow.get_tracking_uri()}: {first}") from None
        return self._run

    def _log_parameters(self, parameters: Mapping[str, Any]) -> None:
        entries = [
            self._mlflow.entities.Param(name, str(value)[:_LONGEST_VALUE])
            for name, value in parameters.items()
        ]
        for start in range(0, len(entries), _AT_ONCE):
            self._client.log_batch(self._run, params=entries[start : start + _AT_ONCE])

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `Tracker`."""
        for name, value in metrics.items():
            self._client.log_metric(self._run, name.replace("@", "_at_"), value, step=step)

    def add_files(self, files: Sequence[tuple[Path, str]]) -> None:
        """See `Tracker`."""
        for file, name in files:
            folder = name.rpartition("/")[0]
            self._client.log_artifact(self._run, str(file), folder or None)

    def close(self, *, complete: bool) -> None:
        """See `Tracker`."""
        self._client.set_terminated(self._run, "FINISHED" if complete else "KILLED")
