"""Trained systems that are part of another: how a run stores them and builds them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqloom.core.config import Config
from seqloom.core.errors import ArtefactError
from seqloom.systems.base import Member, Sizes, base_differences
from seqloom.systems.registry import system_class


class StoredMember(Config):
    """Description of a member, from which it is built; its tensors are stored with those of the whole."""

    name: str
    """Name of the member's run."""
    system: str
    config: dict[str, Any]
    sizes: Sizes
    base: dict[str, Any] | None = None
    """The frozen language model that the member is a plug-in of."""


def store_member(member: Member, folder: Path) -> StoredMember:
    """Writes the files of a member into a new folder; returns its description."""
    folder.mkdir()
    system = member.system
    system.write_files(folder)
    return StoredMember(
        name=member.name,
        system=system.name,
        config=system.config.model_dump(mode="json"),
        sizes=system.sizes,
        base=system.base_reference(),
    )


def build_member(stored: StoredMember, folder: Path) -> Member:
    """Builds a member without its weights, which are loaded with those of the whole.

    Raises:
        ArtefactError: it is a plug-in, and was trained with another language model.
    """
    cls = system_class(stored.system)
    system = cls(cls.config_class.build_stored(stored.config), stored.sizes)
    wrong = base_differences(stored.base, system.base_reference())
    if wrong:
        raise ArtefactError(
            f"member {stored.name} of the run in {folder.parent} is a plug-in of {wrong}; "
            "make that language model available under its name, or train again"
        )
    system.read_files(folder)
    return Member(stored.name, system)
