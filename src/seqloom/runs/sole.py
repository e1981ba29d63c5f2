"""One writer for what several processes write together: the first process holds the lock for all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from seqloom.core.files import recover, remove_unfinished, sole_writer
from seqloom.core.progress import SILENT, Progress
from seqloom.distributed.processes import ALONE, Processes


@contextmanager
def sole_process(
    path: Path, processes: Processes = ALONE, progress: Progress = SILENT
) -> Iterator[None]:
    """Hold the lock of the folder `path` within the block; what killed commands have left unfinished in it
    is put right first.

    Raises:
        LockedError: another command is writing the folder.
        ProcessError: in the other processes, where the first one raises.
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
