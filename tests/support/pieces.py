"""Pieces of work that workers of any engine can import: this module needs nothing but Python."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from seqloom.core.errors import DataError
from seqloom.core.files import atomic_file


def square(piece: int) -> tuple[int, int, str]:
    """Returns the square, the process and its number of threads."""
    return piece * piece, os.getpid(), os.environ["OMP_NUM_THREADS"]


def die_first_time(folder: str, deadly: int, piece: int) -> int:
    """Kills its own process at the piece `deadly`, the first time; every start leaves a file."""
    (Path(folder) / f"begun-{piece}-{os.getpid()}-{time.monotonic_ns()}").touch()
    if piece == deadly and len(list(Path(folder).glob(f"begun-{piece}-*"))) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return piece


def always_die(piece: int) -> None:
    """Ends its process."""
    os._exit(7)


def raise_error(piece: int) -> None:
    """Raises an error of seqloom's at piece 1, a fault elsewhere."""
    raise DataError("the log is empty") if piece == 1 else ValueError("a fault")


def slow_piece(folder: str, seconds: float, piece: int) -> int:
    """Waits, then writes a file atomically."""
    time.sleep(seconds)
    with atomic_file(Path(folder) / f"done-{piece}") as work:
        work.write_text(str(piece))
    return piece
