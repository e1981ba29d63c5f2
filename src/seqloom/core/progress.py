"""How long work reports its progress, without knowing who shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One bar: a piece of work with a known or unknown number of units."""

    def advance(self, amount: float = 1, **shown: object) -> None:
        """`amount` more units are done; `shown` are figures to show beside the bar."""


class Progress(Protocol):
    """Where work reports to. The command line shows bars; a library call shows nothing."""

    def task(
        self, name: str, total: float | None = None, unit: str = "steps"
    ) -> AbstractContextManager[Task]:
        """Open a bar that closes with the block."""

    def note(self, message: str) -> None:
        """Say one line."""

    def warn(self, message: str) -> None:
        """Say one line that the user should not miss."""


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
