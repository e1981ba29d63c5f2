"""Atomic writes of files and folders, hashes, JSON."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqloom.core.damage import reading
from seqloom.core.errors import ArtefactError
from seqloom.core.locks import writing
from seqloom.core.progress import SILENT, Progress
from seqloom.core.storage import exchange, naming_full_disk, sync_file, sync_folder, sync_tree

_CHECKSUM = "checksum"
_SHA256 = "sha256:"
_LEFT = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}\.(?P<kind>part|old)")
"""Leftover of a killed write of NAME: `.part` is new and unfinished, `.old` the former content."""


@contextlib.contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty folder beside `path` that becomes `path` when the block succeeds.

    If the block raises or the process dies, `path` does not appear, or keeps its former content: both names
    are exchanged in one step. Where the platform (neither Linux nor macOS) or the file system (some network
    file systems) cannot do that, the old folder is renamed first; a process that dies between the two
    renames leaves it as `.NAME.*.old`, and the next writer of `path` restores it.

    Raises:
        ArtefactError: `path` exists and `overwrite` is false.
        LockedError: another process is writing `path`.
        StorageError: the disk is full.
    """
    path = Path(path).resolve() if Path(path).is_symlink() else Path(path)
    with writing(path):
        recover(path)
        if path.exists() and not overwrite:
            raise ArtefactError(
                f"{path} already exists; choose another name or ask to overwrite it"
            )
        if path.exists() and not path.is_dir():
            raise ArtefactError(f"{path} is a file, not a folder; choose another name")
        work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        try:
            with naming_full_disk(path):
                work.chmod(0o755)
                yield work
                sync_tree(work)
                _replace(path, work)
                sync_folder(path.parent)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _replace(path: Path, work: Path) -> None:
    """Replaces `path` by `work`; the former content is then named `work`, or removed."""
    if not path.exists():
        work.rename(path)
    elif not exchange(work, path):
        old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
        path.rename(old)
        work.rename(path)
        shutil.rmtree(old)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path` that replaces `path` when the block succeeds.

    Raises:
        StorageError: the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming_full_disk(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    work = Path(name)
    try:
        with naming_full_disk(path):
            work.chmod(0o644)
            yield work
            sync_file(work)
            work.replace(path)
            sync_folder(path.parent)
    finally:
        work.unlink(missing_ok=True)


def find_leftovers(path: Path, kind: str) -> list[Path]:
    """Returns the leftovers of killed writes of `path`, of the kind `part` or `old`."""
    candidates = path.parent.glob(f".*.{kind}") if path.parent.is_dir() else ()
    return sorted(
        left
        for left in candidates
        if (match := _LEFT.fullmatch(left.name)) and match["name"] == path.name
    )


def recover(path: Path, progress: Progress = SILENT) -> None:
    """Cleans up after killed writes of `path`, whose lock the caller holds.

    Restores a folder that was about to be replaced, and removes unfinished ones.
    """
    for old in find_leftovers(path, "old"):
        inner = old / path.name  # where an older seqloom moved it
        kept = inner if inner.exists() else old
        if not path.exists() and (not kept.is_dir() or any(kept.iterdir())):
            kept.rename(path)
            sync_folder(path.parent)
            progress.warn(
                f"an overwrite of {path} was interrupted before it was complete; its former content "
                "is restored"
            )
        _remove(old)
    for part in find_leftovers(path, "part"):
        _remove(part)
        progress.note(f"removed {part}, which an interrupted write of {path} left unfinished")


@contextlib.contextmanager
def sole_writer(path: str | Path, progress: Progress = SILENT) -> Iterator[None]:
    """Holds the lock of `path` within the block, after cleaning up what killed writes have left.

    Raises:
        LockedError: another process is writing `path`.
    """
    with writing(path):
        recover(Path(path), progress)
        yield


def remove_unfinished(folder: Path) -> None:
    """Removes unfinished files of killed writes in `folder`, whose lock the caller holds."""
    for left in folder.glob(".*.part"):
        if _LEFT.fullmatch(left.name):
            _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any, *, sealed: bool = False) -> None:
    """Writes `value` as indented UTF-8 JSON, atomically. Refuses NaN and infinities.

    Args:
        sealed: add the key `checksum`, by which `read_json` sees any later change; `value` is a mapping.
    """
    if sealed:
        value = {**value, _CHECKSUM: _checksum(json.loads(json.dumps(value, allow_nan=False)))}
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_file(path) as work:
        work.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, what: str) -> Any:
    """Reads a JSON file that seqloom wrote; verifies and removes its checksum. `what` names it in errors.

    Raises:
        ArtefactError: the file is missing, damaged or was changed since it was written.
    """
    path = Path(path)
    remedy = f"make the {what} again"
    if not path.exists():
        raise _missing(path, what)
    with reading(path, f"the JSON of a {what}", remedy):
        value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict) or not str(value.get(_CHECKSUM, "")).startswith(_SHA256):
        return value
    stored = value.pop(_CHECKSUM)
    actual = _checksum(value)
    if stored != actual:
        raise ArtefactError(
            f"{path} was damaged or changed since seqloom wrote it: its content has the checksum "
            f"{actual[:19]}, expected {stored[:19]}; put it back, or {remedy}"
        )
    return value


def _missing(path: Path, what: str) -> ArtefactError:
    old = [str(one) for one in find_leftovers(path.parent, "old")]
    if old and not path.parent.exists():
        return ArtefactError(
            f"{path.parent} is missing: an overwrite of it was interrupted, and its former content lies in "
            f"{', '.join(old)}; run the command that was interrupted again, which puts it back first, or "
            "rename it yourself"
        )
    return ArtefactError(f"{path} is missing: this is no {what}, or it is incomplete")


def _checksum(value: dict[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return _SHA256 + hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Computes the SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_text(*parts: str) -> str:
    """Computes a SHA-256 over `parts`, each prefixed with its length, so that different lists differ."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()
