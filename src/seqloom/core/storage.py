"""File-system operations behind atomic writes: exchange of names, sync to disk, errors of a full disk."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from seqloom.core.errors import StorageError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
"""Of Linux's renameat2; macOS's renamex_np has the same number for RENAME_SWAP."""
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def exchange(first: Path, second: Path) -> bool:
    """Swaps two names in one step; returns False where the platform or the file system cannot.

    Raises:
        OSError: one of the names is missing or may not be renamed.
    """
    call = _exchange_call()
    if call is None:
        return False
    if call(os.fsencode(first), os.fsencode(second)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))


@functools.cache
def _exchange_call() -> Callable[[bytes, bytes], int] | None:
    """Returns the system call that swaps two names, if there is one."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
    except (OSError, TypeError):
        return None
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        swap = library.renamex_np
        swap.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint]
        return lambda first, second: int(swap(first, second, _RENAME_EXCHANGE))
    if hasattr(library, "renameat2"):
        rename = library.renameat2
        one = (ctypes.c_int, ctypes.c_char_p)
        rename.argtypes = [*one, *one, ctypes.c_uint]
        return lambda first, second: int(
            rename(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE)
        )
    return None


def sync_file(path: Path) -> None:
    """Waits until a file's bytes are on the disk."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def sync_folder(path: Path) -> None:
    """Waits until a folder's names are on the disk, where the file system supports it."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_tree(path: Path) -> None:
    """Waits until all files and folders below `path` are on the disk."""
    for folder, _, files in os.walk(path):
        for name in files:
            sync_file(Path(folder) / name)
        sync_folder(Path(folder))


@contextlib.contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Turns the error of a full disk within the block into one that says what to do.

    Raises:
        StorageError: the disk has no room for `path`.
    """
    try:
        yield
    except OSError as error:
        full = full_disk(error, path)
        if full is None:
            raise
        raise full from error


def full_disk(error: OSError, path: Path | None = None) -> StorageError | None:
    """Returns a `StorageError` for the error of a full disk; None for other errors.

    Args:
        path: the file being written; by default the one that `error` names.
    """
    if error.errno not in _FULL:
        return None
    where = path or Path(os.fsdecode(error.filename or "."))
    free = error.free if isinstance(error, StorageError) else _free(where)
    return StorageError(error.errno, os.strerror(error.errno), str(where), free)


def _free(path: Path) -> str:
    """Describes the free space of the disk of `path`."""
    for folder in (path, *path.absolute().parents):
        with contextlib.suppress(OSError):
            return f"{shutil.disk_usage(folder).free / (1 << 20):,.1f} MiB are free on its disk"
    return "the free space is unknown"
