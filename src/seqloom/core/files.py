"""Files and folders that are either whole or not there: atomic writes, hashes, JSON."""

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
"""What a killed write leaves beside NAME: `.part` is new and unfinished, `.old` is what it was to replace."""


@contextlib.contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `path` that becomes `path` when the block ends well.

    When the block raises, or the process dies, no folder named `path` appears, or the one that was there
    stays: both names are exchanged in one step. Where the platform or the file system cannot do that (it is
    neither Linux nor macOS, or some network file systems), the old folder is renamed first; a process that
    dies between the two renames leaves it as `.NAME.*.old`, and the next writer of `path` puts it back.

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
    """Put `work` in the place of `path`; what was there is then `work`, or gone."""
    if not path.exists():
        work.rename(path)
    elif not exchange(work, path):
        old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
        path.rename(old)
        work.rename(path)
        shutil.rmtree(old)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` that replaces `path` when the block ends well.

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
    """What killed writes of `path` have left beside it: of the kind `part` or `old`."""
    found = path.parent.glob(f".*.{kind}") if path.parent.is_dir() else ()
    return sorted(
        left
        for left in found
        if (match := _LEFT.fullmatch(left.name)) and match["name"] == path.name
    )


def recover(path: Path, progress: Progress = SILENT) -> None:
    """Put right what killed writes of `path` have left; the caller holds its lock.

    A folder that was about to be replaced goes back to its place; unfinished ones are removed.
    """
    for old in find_leftovers(path, "old"):
        inner = old / path.name  # where an older seqloom moved it
        kept = inner if inner.exists() else old
        if not path.exists() and (not kept.is_dir() or any(kept.iterdir())):
            kept.rename(path)
            sync_folder(path.parent)
            progress.warn(
                f"an overwrite of {path} was interrupted before it was complete; its former content is "
                "back in its place"
            )
        _remove(old)
    for part in find_leftovers(path, "part"):
        _remove(part)
        progress.note(f"removed {part}, which an interrupted write of {path} left unfinished")


@contextlib.contextmanager
def sole_writer(path: str | Path, progress: Progress = SILENT) -> Iterator[None]:
    """Hold the lock of `path` within the block; what killed writes have left is put right first.

    Raises:
        LockedError: another process is writing `path`.
    """
    with writing(path):
        recover(Path(path), progress)
        yield


def remove_unfinished(folder: Path) -> None:
    """Remove the unfinished files that killed writes have left in `folder`; its lock is held."""
    for left in folder.glob(".*.part"):
        if _LEFT.fullmatch(left.name):
            _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any, *, sealed: bool = False) -> None:
    """Write `value` as indented UTF-8 JSON, atomically. NaN and infinities are refused.

    Args:
        sealed: add the key `checksum`, by which `read_json` sees any later change; `value` is a mapping.
    """
    if sealed:
        value = {**value, _CHECKSUM: _checksum(json.loads(json.dumps(value, allow_nan=False)))}
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_file(path) as work:
        work.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file that seqloom wrote; `what` names it in the error. A checksum is compared and left out.

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
    found = _checksum(value)
    if stored != found:
        raise ArtefactError(
            f"{path} was damaged or changed since seqloom wrote it: its content has the checksum "
            f"{found[:19]}, expected {stored[:19]}; put it back, or {remedy}"
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
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_text(*parts: str) -> str:
    """SHA-256 over `parts`, each with its length before it, so that no two lists collide."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()
