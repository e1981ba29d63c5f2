"""Library calls show bars where a person types, and nothing in scripts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from seqloom.core import interactive
from seqloom.core.errors import ConfigError
from seqloom.core.interactive import AUTO, is_interactive, show_progress, shows_progress


@pytest.fixture(autouse=True)
def _auto() -> Iterator[None]:
    show_progress("auto")
    yield
    show_progress("auto")


class Page:
    """Stands for a notebook's output: keeps what is displayed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.drawn: list[str] = []
        package, display = ModuleType("IPython"), ModuleType("IPython.display")
        package.get_ipython = lambda: SimpleNamespace(kernel=True)  # type: ignore[attr-defined]
        display.HTML = str  # type: ignore[attr-defined]
        display.display = self.display  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "IPython", package)
        monkeypatch.setitem(sys.modules, "IPython.display", display)

    def display(self, page: str, display_id: bool) -> Any:
        self.drawn.append(page)
        return SimpleNamespace(update=self.drawn.append)


def test_a_script_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert not is_interactive()
    with AUTO.task("train", 3) as task:
        task.advance(3)
    AUTO.note("a note")
    assert capsys.readouterr() == ("", "")


def test_the_prompt_shows_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert shows_progress()
    show_progress(False)
    assert not shows_progress()


def test_the_environment_decides(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEQLOOM_PROGRESS", "on")
    AUTO.note("reading")
    assert capsys.readouterr().err == "reading\n"
    monkeypatch.setenv("SEQLOOM_PROGRESS", "yes")
    with pytest.raises(ConfigError, match="SEQLOOM_PROGRESS is 'yes'; set it to on, off or auto"):
        shows_progress()


def test_a_notebook_redraws_one_output(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(monkeypatch)
    monkeypatch.setattr(interactive, "_REDRAW_S", 0.0)
    with AUTO.task("train <1>", 2, "epochs") as task:
        with AUTO.task("epoch", 5) as inner:
            inner.advance(5)
        task.advance(2, loss=0.5)
    assert "train &lt;1&gt;" in page.drawn[0]
    assert any("epoch</b>" in drawn for drawn in page.drawn)
    assert "epoch</b>" not in page.drawn[-1]
    assert "2/2 epochs" in page.drawn[-1]
    assert "loss 0.5" in page.drawn[-1]


def test_an_error_closes_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(monkeypatch)
    with pytest.raises(KeyboardInterrupt), AUTO.task("train", 2):
        raise KeyboardInterrupt
    with AUTO.task("again", 1):
        pass
    assert "again" in page.drawn[-1]
    assert "train" not in page.drawn[-1]
