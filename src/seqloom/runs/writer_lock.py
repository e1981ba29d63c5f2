"""The lock of a folder that several processes write together: the first process holds it for all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from seqloom.core.files import recover, remove_unfinished, sole_writer
from seqloom.core.progress import SILENT, Progress
from seqloom.distributed.processes import ALONE, Processes


@contextmanager
def writer_lock(
    path: Path, processes: Processes = ALONE, progress: Progress = SILENT
) -> Iterator[None]:
    """Holds the lock of the folder `path` within the block, after repairing what killed commands left in it.

    Raises:
        LockedError: another command is writing the folder.
        ProcessError: in the other processes, if the first one raises.
    """
    with ExitStack() as stack:

        def enter() -> str:
            stack.enter_context(sole_writer(path, progress))
            for kept in ("last", "best"):
                if (path / "checkpoints").is_dir():
                    recover(path / "checkpoints" / kept, progress)
            remove_unfinished(path)
            return ""

        processes.run_on_first(enter)
        yield
