"""Targets of exported vectors: the protocol, and the choice of one by its name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol, get_args

import numpy as np

from seqloom.core.errors import ConfigError
from seqloom.pipelines.recommend.vectors.items import ItemVectors

TargetName = Literal["faiss", "parquet", "qdrant", "pgvector", "lancedb"]
Index = Literal["auto", "exact", "hnsw"]
EXACT_BELOW = 20_000
"""With `auto`, a smaller catalogue is searched exactly, which is fast enough there."""


@dataclass(frozen=True)
class Place:
    """Where a target writes, and how."""

    folder: Path
    """The folder of the export, for targets that are files."""
    url: str | None
    """The address of a server, for targets that have one."""
    name: str
    """Name of the table or collection."""
    hnsw: bool
    """Whether to build an index by HNSW (Malkov and Yashunin 2018) in place of exact search."""
    overwrite: bool


class VectorTarget(Protocol):
    """A file or database that holds the vectors and searches them."""

    needs_url: bool
    """Whether it exists on a server only."""
    takes_url: bool
    """Whether it can be on a server."""

    def __init__(self, place: Place) -> None:
        """Checks that the libraries are installed. Raises `ConfigError`."""

    def write(self, items: ItemVectors) -> None:
        """Writes all items.

        Raises:
            ConfigError: the table or collection exists already, or the server cannot be reached.
        """

    def search(self, queries: np.ndarray, k: int) -> list[list[str]]:
        """Returns the ids of the `k` best items of each query, by the target's own search.

        Shapes: queries [B, D] float32.
        """

    def how_to_search(self) -> str:
        """Returns a line of code that searches."""


_MODULES = {
    "faiss": "faiss_files:FaissFiles",
    "parquet": "parquet_file:ParquetFile",
    "qdrant": "qdrant:Qdrant",
    "pgvector": "pgvector:PgVector",
    "lancedb": "lance:Lance",
}


def target_class(name: str) -> type[VectorTarget]:
    """Imports a target.

    Raises:
        ConfigError: no target has this name.
    """
    if name not in _MODULES:
        raise ConfigError(
            f"there is no target {name!r}; allowed: {', '.join(get_args(TargetName))}"
        )
    module, _, attribute = _MODULES[name].partition(":")
    found: type[VectorTarget] = getattr(
        importlib.import_module(f"seqloom.pipelines.recommend.vectors.{module}"), attribute
    )
    return found


def import_library(module: str, extra: str) -> ModuleType:
    """Imports the library of a target.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f"this target needs {module}, which is not installed; pip install 'seqloom[{extra}]'"
        ) from None
