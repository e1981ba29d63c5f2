"""Progress reports of long work, independent of their display."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One progress bar, with a known or unknown number of units."""

    def advance(self, amount: float = 1, **shown: object) -> None:
        """Advances the bar by `amount` units; shows the figures `shown` beside it."""


class Progress(Protocol):
    """Receives progress reports. The command line shows bars; a library call shows nothing."""

    def task(
        self, name: str, total: float | None = None, unit: str = "steps"
    ) -> AbstractContextManager[Task]:
        """Opens a bar that closes with the block."""

    def note(self, message: str) -> None:
        """Shows a message of one line."""

    def warn(self, message: str) -> None:
        """Shows a warning of one line."""


class _SilentTask:
    def advance(self, amount: float = 1, **shown: object) -> None:
        pass


class SilentProgress:
    """A `Progress` that shows nothing."""

    @contextmanager
    def task(self, name: str, total: float | None = None, unit: str = "steps") -> Iterator[Task]:
        yield _SilentTask()

    def note(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass


SILENT = SilentProgress()
