"""Names the runs of a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seqloom.core.errors import ConfigError


def name_runs(paths: Sequence[str]) -> dict[str, Path]:
    """Runs by name: `FOLDER` takes the folder's name, `NAME=FOLDER` the one given.

    Raises:
        ConfigError: two runs have one name, or one is a URL.
    """
    named: dict[str, Path] = {}
    for text in paths:
        if "://" in text:  # not repeated: it may hold a password
            raise ConfigError("a run is a folder; name the store with --store URL")
        name, equals, folder = text.partition("=")
        path = Path(folder if equals else text)
        name = name if equals else path.resolve().name
        if name in named:
            raise ConfigError(f"two runs are called {name!r}; name one of them: NAME=FOLDER")
        named[name] = path
    return named
