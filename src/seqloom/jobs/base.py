"""The interface of all job runners."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

from seqloom.core.progress import SILENT, Progress

Work = Callable[[int], Any]
"""Maps a piece number to a small result: a module-level function, or a `functools.partial` of one with plain
arguments. It runs in other processes, and again where a worker died, so it must be idempotent: it writes its
files atomically and recognises what it has finished."""
ATTEMPTS = 4
"""Number of times a piece is started before the job fails because workers died at it."""


class JobRunner(Protocol):
    """Runs the pieces of a job somewhere."""

    name: str

    def run(
        self, work: Work, pieces: Sequence[int], *, name: str, progress: Progress = SILENT
    ) -> list[Any]:
        """Runs `work` on all `pieces` and returns the results in their order.

        If a worker dies, another one restarts its piece. An error raised by `work` stops the job, since
        the piece would raise it again.

        Args:
            name: shown beside the progress bar.

        Raises:
            SeqloomError: the error that `work` raised.
            EngineError: `work` raised anything else, workers died `ATTEMPTS` times at one piece, or
                the cluster cannot be reached.
        """

    def slots(self) -> int:
        """Returns how many pieces run at a time, for choosing the number of shards."""

    def close(self) -> None:
        """Releases the workers. A runner is also a context manager that closes at its end."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
