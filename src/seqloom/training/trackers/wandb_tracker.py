"""Weights & Biases: a run of a project, by the library's own settings (WANDB_PROJECT, WANDB_MODE)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqloom.core.errors import ConfigError
from seqloom.training.trackers.base import PROJECT, Subject, import_library


class WandbTracker:
    """Records a run in Weights & Biases, online or offline."""

    name = "wandb"

    def __init__(self) -> None:
        self._wandb = import_library("wandb")
        self._run: Any = None

    def open(self, subject: Subject, key: str | None) -> str:
        """See `Tracker`."""
        try:
            self._run = self._wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=subject.name,
                config=dict(subject.parameters),
                tags=[value[:64] for value in subject.tags.values() if value],
                notes=", ".join(f"{name}: {value}" for name, value in subject.tags.items()),
                id=key,
                resume="allow",
                reinit="create_new",
            )
        except self._wandb.errors.Error as error:
            raise ConfigError(f"Weights & Biases: {error}") from None
        return str(self._run.id)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._run.log(dict(metrics), step=step)

    def add_files(self, files: Sequence[tuple[Path, str]]) -> None:
        """See `Tracker`."""
        name = re.sub(r"[^\w.-]", "-", f"{self._run.name or 'run'}-{self._run.id}")
        artefact = self._wandb.Artifact(name, type="seqloom-run")
        for file, stored in files:
            artefact.add_file(str(file), name=stored)
        self._run.log_artifact(artefact)

    def close(self, *, complete: bool) -> None:
        """See `Tracker`."""
        self._run.finish(exit_code=0 if complete else 1)
