"""The one interface of all engines, and how an engine is chosen."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

from seqloom.core.progress import SILENT, Progress

Work = Callable[[int], Any]
"""Piece number -> a small result. A function of a module, or a `functools.partial` of one with plain
arguments; it is called in other processes, and again where a worker died, so it must be idempotent:
it writes its files whole or not at all, and finds again what it has finished."""
ATTEMPTS = 4
"""How often a piece is begun before the job gives up on workers that die at it."""


class JobRunner(Protocol):
    """Runs the pieces of a job somewhere."""

    name: str

    def run(
        self, work: Work, pieces: Sequence[int], *, name: str, progress: Progress = SILENT
    ) -> list[Any]:
        """The results of `work` for all `pieces`, in their order; `name` is shown beside the bar.

        A piece whose worker dies is begun again by another. An error that `work` raises stops the
        job: what raises once would raise again.

        Raises:
            SeqloomError: what `work` raised.
            EngineError: `work` raised anything else, workers died `ATTEMPTS` times at one piece, or
                the cluster cannot be reached.
        """

    def slots(self) -> int:
        """How many pieces run at a time, for choosing the number of shards."""

    def close(self) -> None:
        """Give up the workers. An engine is also a context that closes at its end."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
