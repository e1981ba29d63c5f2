"""Progress of library calls: bars in notebooks and interactive terminals, nothing in scripts."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, Literal

from seqloom.core.errors import ConfigError
from seqloom.core.progress import SILENT, Progress, Task

VARIABLE = "SEQLOOM_PROGRESS"
"""Environment variable: `on`, `off` or `auto`."""
_REDRAW_S = 0.2
"""Shortest time between two drawings of a notebook's bar."""
_choice: bool | None = None


def show_progress(on: bool | Literal["auto"] = "auto") -> None:
    """Switches the progress bars of library calls on or off.

    `auto`, the default of a session, shows them in notebooks, in IPython and at the Python prompt. A call
    that receives a `progress` object reports to that object whatever is chosen here. The environment
    variable SEQLOOM_PROGRESS (`on`, `off`) sets the default of a process.
    """
    global _choice
    _choice = None if on == "auto" else on


def shows_progress() -> bool:
    """Returns whether library calls show progress.

    Raises:
        ConfigError: SEQLOOM_PROGRESS has another value than `on`, `off` or `auto`.
    """
    if _choice is not None:
        return _choice
    value = os.environ.get(VARIABLE, "auto").lower()
    if value not in ("on", "off", "auto"):
        raise ConfigError(f"{VARIABLE} is {value!r}; set it to on, off or auto")
    return is_interactive() if value == "auto" else value == "on"


def is_interactive() -> bool:
    """Returns whether a person types commands: a notebook, IPython, or the Python prompt."""
    return hasattr(sys, "ps1") or bool(sys.flags.interactive) or _shell() is not None


def in_notebook() -> bool:
    """Returns whether output appears in a notebook."""
    return hasattr(_shell(), "kernel")


def _shell() -> Any:
    """Returns the running IPython shell, or None. Does not import IPython."""
    loaded = sys.modules.get("IPython")
    return loaded.get_ipython() if loaded is not None else None


class AutoProgress:
    """A `Progress` that shows bars where `shows_progress`; the outermost task opens the display."""

    def __init__(self) -> None:
        self._display: Progress | None = None

    @contextmanager
    def task(self, name: str, total: float | None = None, unit: str = "steps") -> Iterator[Task]:
        if self._display is not None:
            with self._display.task(name, total, unit) as task:
                yield task
            return
        with _open_display() as display, display.task(name, total, unit) as task:
            self._display = display
            try:
                yield task
            finally:
                self._display = None

    def __repr__(self) -> str:
        return "AUTO"

    def note(self, message: str) -> None:
        with self._shown() as display:
            display.note(message)

    def warn(self, message: str) -> None:
        with self._shown() as display:
            display.warn(message)

    @contextmanager
    def _shown(self) -> Iterator[Progress]:
        if self._display is not None:
            yield self._display
            return
        with _open_display() as display:
            yield display


AUTO = AutoProgress()
"""The default `progress` of public functions."""


@contextmanager
def _open_display() -> Iterator[Progress]:
    if not shows_progress():
        yield SILENT
    elif in_notebook():
        yield NotebookProgress()
    else:
        from seqloom.core.progress_bars import open_progress

        with open_progress(quiet=False) as progress:
            yield progress


class NotebookProgress:
    """HTML bars in the output of a notebook's cell; needs no widgets.

    A bar is redrawn in place. Bars of inner tasks disappear with their block, the outermost one stays.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.bars: list[_NotebookTask] = []
        self._handle: Any = None
        self._drawn = 0.0

    @contextmanager
    def task(self, name: str, total: float | None = None, unit: str = "steps") -> Iterator[Task]:
        bar = _NotebookTask(self, name, total, unit)
        self.bars.append(bar)
        self.draw(force=True)
        try:
            yield bar
        finally:
            if len(self.bars) > 1:
                self.bars.remove(bar)
            self.draw(force=True)
            if self.bars == [bar]:
                self.bars, self._handle = [], None

    def note(self, message: str) -> None:
        print(message)

    def warn(self, message: str) -> None:
        print(f"warning: {message}", file=sys.stderr)

    def draw(self, *, force: bool = False) -> None:
        """Draws all bars, unless that was done a moment ago."""
        now = self.clock()
        if not force and now - self._drawn < _REDRAW_S:
            return
        self._drawn = now
        from IPython.display import HTML, display

        page = HTML("".join(bar.html(depth) for depth, bar in enumerate(self.bars)))
        if self._handle is None:
            self._handle = display(page, display_id=True)
        else:
            self._handle.update(page)


class _NotebookTask:
    def __init__(self, owner: NotebookProgress, name: str, total: float | None, unit: str) -> None:
        self.owner = owner
        self.name = name
        self.total = total
        self.unit = unit
        self.done = 0.0
        self.shown: dict[str, object] = {}
        self.started = owner.clock()

    def advance(self, amount: float = 1, **shown: object) -> None:
        self.done += amount
        self.shown = shown or self.shown
        self.owner.draw()

    def html(self, depth: int) -> str:
        from seqloom.core.progress_bars import figures

        elapsed = self.owner.clock() - self.started
        text = figures(
            done=self.done,
            total=self.total,
            unit=self.unit,
            rate=self.done / elapsed if elapsed > 0 else None,
            elapsed_s=elapsed,
            shown=self.shown,
        )
        value = f" value='{self.done:g}' max='{self.total:g}'" if self.total else ""
        return (
            f"<div style='margin-left:{depth * 1.5}em'><progress{value}></progress> "
            f"<b>{escape(self.name)}</b> <code>{escape(text)}</code></div>"
        )
