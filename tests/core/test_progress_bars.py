"""Progress as lines and as bars."""

import io

import pytest
from rich.console import Console

from seqloom.core.progress_bars import LineProgress, duration, figures, open_progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def lines_of(console: Console) -> list[str]:
    return text_of(console).splitlines()


def plain_console() -> Console:
    return Console(file=io.StringIO(), width=200)


def test_lines_come_now_and_then() -> None:
    clock, console = Clock(), plain_console()
    with LineProgress(console, every_s=10, clock=clock).task("train", total=30) as task:
        for _ in range(30):
            clock.now += 1
            task.advance(loss=6.5)
    assert lines_of(console) == [
        "train: 10/30 steps, 1/s, 20 s left, loss 6.5",
        "train: 20/30 steps, 1/s, 10 s left, loss 6.5",
        "train: 30/30 steps, 1/s, 30 s in all, loss 6.5",
        "train: 30/30 steps, 1/s, 30 s in all, loss 6.5",
    ]


def test_a_short_task_prints_nothing() -> None:
    clock, console = Clock(), plain_console()
    with LineProgress(console, every_s=10, clock=clock).task("prepare") as task:
        clock.now += 9
        task.advance()
    assert lines_of(console) == []


def test_notes_are_no_markup() -> None:
    console = plain_console()
    with open_progress(quiet=False, console=console) as progress:
        progress.note("[bold]50[/bold] files")
        progress.warn("3 rows")
    assert lines_of(console) == ["[bold]50[/bold] files", "warning: 3 rows"]


def test_bars_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    with (
        open_progress(quiet=False, console=console) as progress,
        progress.task("outer [x]", total=2, unit="epochs") as outer,
    ):
        with progress.task("inner", total=5) as inner:
            inner.advance(5, loss=1.0)
        outer.advance(2)
    text = text_of(console)
    assert "outer [x]" in text
    assert "2/2 epochs" in text


def test_bars_do_not_pile_up() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    with open_progress(quiet=False, console=console) as progress:
        for epoch in range(5):
            with progress.task(f"epoch {epoch}", total=1) as task:
                task.advance()
    last_frame = text_of(console).rpartition("\x1b[2K")[2]
    assert "epoch 4" in last_frame
    assert "epoch 3" not in last_frame


def test_quiet_shows_warnings_only() -> None:
    console = plain_console()
    with open_progress(quiet=True, console=console) as progress:
        progress.note("a")
        with progress.task("b", total=1) as task:
            task.advance()
        progress.warn("c")
    assert lines_of(console) == ["warning: c"]


def test_figures_without_a_total() -> None:
    shown = figures(done=1500, total=None, unit="rows", rate=250.0, elapsed_s=6, shown={})
    assert shown == "1,500 rows, 250/s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "0.4 s"),
        (42.2, "42 s"),
        (59.7, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
