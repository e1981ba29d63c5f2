"""Write locks on folders: one writer at a time; the lock names its holder, and a kill releases it.

The lock of PATH is an `flock` on the file `.NAME.writing` beside it (inside it, where PATH is a mount
point or its parent cannot be written to). The file holds the holder's process, host, command and start as
JSON. It is removed at the end; after a kill it stays, unlocked, and the next holder takes it over. On NFS the
lock holds between machines where the server supports locks (NFSv4, or NFSv3 with lockd).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shlex
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from seqloom.core.errors import LockedError
from seqloom.core.storage import naming_full_disk

_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@dataclass
class _Held:
    """A lock held by this process."""

    thread: int
    handle: int
    file: Path
    shared: bool
    count: int = 1


_locks: dict[Path, _Held] = {}
_guard = threading.Lock()


@contextlib.contextmanager
def writing(path: str | Path, *, shared: bool = False) -> Iterator[None]:
    """Holds the lock of `path` within the block; the same thread may take it again.

    Args:
        shared: take a shared lock, which excludes exclusive holders only: for writers of different parts
            of one folder.

    Raises:
        LockedError: another process, or another thread of this one, holds it; the message says which.
    """
    target = Path(path).absolute()
    target = target.parent.resolve() / target.name
    target = target.resolve() if target.is_symlink() else target
    _take(target, shared=shared)
    try:
        yield
    finally:
        _give_back(target)


def holder(path: str | Path) -> str | None:
    """Describes the current writer of `path`; None if there is no writer."""
    file = _lock_file(Path(path).resolve())
    try:
        handle = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _describe_holder(os.pread(handle, 1 << 16, 0))
    except OSError:
        return None
    finally:
        os.close(handle)
    return None


def _take(target: Path, *, shared: bool) -> None:
    me = threading.get_ident()
    with _guard:
        held = _locks.get(target)
        if held is None:
            target.parent.mkdir(parents=True, exist_ok=True)
            file = _lock_file(target)
            handle = _open_locked(target, file, shared=shared)
            _locks[target] = _Held(me, handle, file, shared)
        elif held.thread == me or (held.shared and shared):
            held.count += 1
        else:
            raise LockedError(
                f"{target} is being written by another thread of this process; wait until it has ended"
            )


def _give_back(target: Path) -> None:
    with _guard:
        held = _locks[target]
        held.count -= 1
        if held.count:
            return
        del _locks[target]
        if held.handle < 0:
            return
        with contextlib.suppress(OSError):
            # Other holders of a shared lock keep its file.
            fcntl.flock(held.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held.file.unlink(missing_ok=True)
        os.close(held.handle)


def _lock_file(target: Path) -> Path:
    """Returns the path of the lock file of `target`."""
    inside = target / ".writing"
    if target.is_dir() and (target.is_mount() or not os.access(target.parent, os.W_OK)):
        return inside
    return target.parent / f".{target.name}.writing"


def _open_locked(target: Path, file: Path, *, shared: bool) -> int:
    """Opens and locks the file; returns its descriptor, or -1 where the file system has no locks."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        with naming_full_disk(target):
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            if _is(file, handle):
                with contextlib.suppress(OSError):  # on a full disk the lock holds without a name
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, _about_me().encode(), 0)
                return handle
            os.close(handle)  # its last holder removed it meanwhile
        except BlockingIOError:
            content = os.pread(handle, 1 << 16, 0)
            os.close(handle)
            raise LockedError(_refusal(target, content)) from None
        except OSError as error:
            os.close(handle)
            if error.errno not in _UNSUPPORTED:
                raise
            file.unlink(missing_ok=True)
            warnings.warn(
                f"the file system of {target} has no locks, so nothing keeps two commands from writing it "
                "at once; make sure that there is one",
                stacklevel=5,
            )
            return -1


def _is(file: Path, handle: int) -> bool:
    try:
        there, own = file.stat(), os.fstat(handle)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)


def _about_me() -> str:
    about = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": shlex.join(sys.argv)[:500],
        "started": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }
    return json.dumps(about) + "\n"


def _describe_holder(content: bytes) -> str:
    """Describes a lock's holder from the content of the lock file."""
    try:
        about = json.loads(content)
        return (
            f"process {about['pid']} on {about['host']} (`{about['command']}`), "
            f"which started at {about['started']}"
        )
    except (ValueError, KeyError, TypeError):
        return "another process"


def _refusal(target: Path, content: bytes) -> str:
    return (
        f"{target} is in progress: it is being written by {_describe_holder(content)}; wait until that "
        "has ended, stop it, or choose another folder"
    )


def _forget() -> None:
    """Drops all locks in a forked child, which must not keep its parent's locks alive."""
    for held in _locks.values():
        if held.handle >= 0:
            with contextlib.suppress(OSError):
                os.close(held.handle)
    _locks.clear()


os.register_at_fork(after_in_child=_forget)
