"""The protocol of trackers."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from seqloom.core.errors import ConfigError

PROJECT = "seqloom"
"""Experiment or project where the tracker's own variables name none."""


@dataclass(frozen=True)
class Subject:
    """What a tracker records: a run."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Dotted configuration keys to values."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """System, data set, split, versions."""


class Tracker(Protocol):
    """Records one run in one place."""

    name: str

    def open(self, subject: Subject, key: str | None) -> str:
        """Begins to record, or continues the record `key`; returns its key.

        Raises:
            ConfigError: the tracker cannot be reached.
        """

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records metrics of a step."""

    def add_files(self, files: Sequence[tuple[Path, str]]) -> None:
        """Stores files as artefacts, each under a name with slashes."""

    def close(self, *, complete: bool) -> None:
        """Ends the record."""


def import_library(module: str) -> ModuleType:
    """Imports the library of a tracker.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f"the tracker {module} is not installed; pip install 'seqloom[{module}]'"
        ) from None


def flat_parameters(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested values by dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flat_parameters(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
