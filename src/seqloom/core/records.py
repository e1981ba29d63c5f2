"""Hashes of a folder's files, kept in its manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import Field

from seqloom.core.config import Config
from seqloom.core.errors import ArtefactError
from seqloom.core.files import sha256_file

_WHOLE = 64 << 20
"""Largest file, in bytes, that is hashed whole when it is opened: 40 ms."""
_BLOCKS = 64
_BLOCK = 1 << 20
"""Of a larger file 64 blocks of 1 MiB are read, evenly spaced, the first and the last included."""


class FileRecord(Config):
    """A manifest's record of a file."""

    bytes: int = Field(ge=0)
    sha256: str
    """Of the whole file."""
    sampled: str = ""
    """SHA-256 of the blocks that are read when a file of more than 64 MiB is opened; else empty."""


def record_file(file: Path) -> FileRecord:
    """Computes the record of a file."""
    size = file.stat().st_size
    sampled = _sampled(file, size) if size > _WHOLE else ""
    return FileRecord(bytes=size, sha256=sha256_file(file), sampled=sampled)


def record_files(folder: Path, names: Iterable[str]) -> dict[str, FileRecord]:
    """Computes the records of files by their path in `folder`."""
    return {name: record_file(folder / name) for name in names}


def check_file(
    folder: Path, name: str, records: Mapping[str, FileRecord], remedy: str, *, whole: bool = False
) -> None:
    """Checks that a file is unchanged since it was written; a file without a record passes.

    A file of more than 64 MiB is sampled, unless `whole`.

    Raises:
        ArtefactError: the file is missing or was changed.
    """
    record = records.get(name)
    if record is None:
        return
    file = folder / name
    try:
        size = file.stat().st_size
        if size != record.bytes:
            actual, expected = f"{size:,} bytes", f"{record.bytes:,}"
        elif record.sampled and not whole:
            actual, expected = _sampled(file, size), record.sampled
        else:
            actual, expected = sha256_file(file), record.sha256
    except FileNotFoundError:
        raise ArtefactError(f"{file} is missing; put it back, or {remedy}") from None
    except OSError as error:
        raise ArtefactError(f"{file} cannot be read ({error.strerror}); {remedy}") from error
    if actual != expected:
        if size == record.bytes:
            actual, expected = f"SHA-256 {actual[:12]}", expected[:12]
        raise ArtefactError(
            f"{file} was damaged or changed since seqloom wrote it: it has {actual}, the manifest says "
            f"{expected}; put it back, or {remedy}"
        )


def _sampled(file: Path, size: int) -> str:
    digest = hashlib.sha256(f"{size}\n".encode())
    with file.open("rb") as handle:
        for number in range(_BLOCKS):
            handle.seek((size - _BLOCK) * number // (_BLOCKS - 1))
            digest.update(handle.read(_BLOCK))
    return digest.hexdigest()
