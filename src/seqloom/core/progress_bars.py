"""Progress on standard error: live bars on a terminal, otherwise occasional lines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.progress import Task as Bar
from rich.text import Text

from seqloom.core.progress import Progress, Task

LINE_EVERY_S = 10.0
Wording = Callable[[str], str]
"""Changes the words of a message: the command line writes parameters as options."""


@contextlib.contextmanager
def open_progress(
    *, quiet: bool, console: Console | None = None, wording: Wording = str
) -> Iterator[Progress]:
    """Shows progress as bars on a terminal, otherwise as lines; only warnings if `quiet`."""
    console = console or Console(stderr=True, highlight=False, soft_wrap=True)
    if quiet:
        yield _Quiet(console, wording)
    elif console.is_terminal:
        with Bars(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            _Figures(),
            console=console,
            refresh_per_second=4,
        ) as bars:
            yield _BarProgress(console, bars, wording)
    else:
        yield LineProgress(console, wording=wording)


class _Messages:
    """Notes and warnings as lines of the console."""

    def __init__(self, console: Console, wording: Wording = str) -> None:
        self.console = console
        self.wording = wording

    def note(self, message: str) -> None:
        self.console.print(Text(self.wording(message)))

    def warn(self, message: str) -> None:
        text = self.wording(message)
        self.console.print(Text.assemble(("warning: ", "bold yellow"), text))


class _Quiet(_Messages):
    """Warnings only."""

    @contextlib.contextmanager
    def task(self, name: str, total: float | None = None, unit: str = "steps") -> Iterator[Task]:
        yield _NoTask()

    def note(self, message: str) -> None:
        pass


class _NoTask:
    def advance(self, amount: float = 1, **shown: object) -> None:
        pass


class _BarProgress(_Messages):
    """Live progress bars.

    A nested bar is removed at the end of its block; an outer bar stays until the next one starts, so
    that a training of many epochs does not fill the screen.
    """

    def __init__(self, console: Console, bars: Bars, wording: Wording = str) -> None:
        super().__init__(console, wording)
        self.bars = bars
        self.depth = 0
        self.finished: TaskID | None = None

    @contextlib.contextmanager
    def task(self, name: str, total: float | None = None, unit: str = "steps") -> Iterator[Task]:
        if self.finished is not None:
            self.bars.remove_task(self.finished)
            self.finished = None
        bar = self.bars.add_task("  " * self.depth + name, total=total, unit=unit, shown={})
        self.depth += 1
        try:
            yield _BarTask(self.bars, bar)
        finally:
            self.depth -= 1
            if self.depth:
                self.bars.remove_task(bar)
            else:
                self.bars.stop_task(bar)
                self.finished = bar


class _BarTask:
    def __init__(self, bars: Bars, bar: TaskID) -> None:
        self.bars = bars
        self.bar = bar

    def advance(self, amount: float = 1, **shown: object) -> None:
        fields = {"shown": shown} if shown else {}
        self.bars.update(self.bar, advance=amount, **fields)  # type: ignore[arg-type]


class _Figures(ProgressColumn):
    """Count, rate, time left and metrics; formatted when drawn, not at each step."""

    def render(self, task: Bar) -> Text:
        text = figures(
            done=task.completed,
            total=task.total,
            unit=task.fields["unit"],
            rate=task.finished_speed or task.speed,
            elapsed_s=task.elapsed or 0.0,
            shown=task.fields["shown"],
        )
        return Text(text)


class LineProgress(_Messages):
    """Prints a line per task at most every `every_s` seconds, and one at the end of a long task."""

    def __init__(
        self,
        console: Console,
        every_s: float = LINE_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
        wording: Wording = str,
    ) -> None:
        super().__init__(console, wording)
        self.every_s = every_s
        self.clock = clock

    @contextlib.contextmanager
    def task(self, name: str, total: float | None = None, unit: str = "steps") -> Iterator[Task]:
        task = _LineTask(self, name, total, unit)
        yield task
        if self.clock() - task.started >= self.every_s:
            task.print_line()


class _LineTask:
    def __init__(self, owner: LineProgress, name: str, total: float | None, unit: str) -> None:
        self.owner = owner
        self.name = name
        self.total = total
        self.unit = unit
        self.done = 0.0
        self.shown: Mapping[str, object] = {}
        self.started = self.last_line = owner.clock()

    def advance(self, amount: float = 1, **shown: object) -> None:
        self.done += amount
        self.shown = shown or self.shown
        now = self.owner.clock()
        if now - self.last_line >= self.owner.every_s:
            self.last_line = now
            self.print_line()

    def print_line(self) -> None:
        elapsed = self.owner.clock() - self.started
        text = figures(
            done=self.done,
            total=self.total,
            unit=self.unit,
            rate=self.done / elapsed if elapsed > 0 else None,
            elapsed_s=elapsed,
            shown=self.shown,
        )
        self.owner.note(f"{self.name}: {text}")


def figures(
    *,
    done: float,
    total: float | None,
    unit: str,
    rate: float | None,
    elapsed_s: float,
    shown: Mapping[str, object],
) -> str:
    """Formats progress: `3/20 epochs, 0.42/s, 40 s left, loss 6.81`; the duration if finished."""
    count = f"{done:,.0f}" if total is None else f"{done:,.0f}/{total:,.0f}"
    parts = [f"{count} {unit}"]
    if rate:
        parts.append(f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s")
    if total is not None and done >= total:
        parts.append(f"{duration(elapsed_s)} in all")
    elif total is not None and rate:
        parts.append(f"{duration((total - done) / rate)} left")
    for name, value in shown.items():
        parts.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Formats a duration: `0.4 s`, `42 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
