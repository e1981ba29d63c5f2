"""Folders of runs on the command line, with the names that they are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seqloom.core.errors import ConfigError


def named_folders(texts: Sequence[str]) -> dict[str, str]:
    """Returns the folders by name: `NAME=FOLDER` has a name, `FOLDER` is called by its last part.

    A folder whose own name contains `=` is taken as a folder if it exists.

    Raises:
        ConfigError: a name is empty, or two folders have one name.
    """
    named: dict[str, str] = {}
    for text in texts:
        name, folder = _split(text)
        if not name.strip():
            raise ConfigError(f"{text!r} has no name before the '='; write NAME=FOLDER")
        if name in named:
            raise ConfigError(
                f"two runs are called {name!r}: {named[name]} and {folder}; "
                "name one of them: NAME=FOLDER"
            )
        named[name] = folder
    return named


def _split(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    if "://" in text and (not equals or "://" in name):  # an address, perhaps with a query
        return text.rstrip("/").rpartition("/")[2], text
    if not equals or "/" in name or Path(text).exists():
        return Path(text).resolve().name, text
    return name, folder
