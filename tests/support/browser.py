"""Pages in headless Chromium: opened, looked at, checked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.axe import MissingAxeError, axe_source

SHOTS = Path(__file__).resolve().parents[2] / "build" / "explorer"
WIDTHS = {390: 844, 768: 1024, 1280: 900}
"""Widths of a phone, a tablet and a screen, with their heights."""


@contextmanager
def chromium() -> Iterator[Any]:
    """Starts Chromium; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium on this machine (Debian package chromium)")
    playwright.expect.set_options(timeout=20_000)
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        yield made
        made.close()


class Pages:
    """Opens pages of one server. Faults in a console and requests to other hosts are collected."""

    def __init__(self, browser: Any, address: str) -> None:
        self._browser = browser
        self._address = address
        self._contexts: list[Any] = []
        self.faults: list[str] = []

    def open(self, path: str = "/", width: int = 1280, quiet: bool = True, **options: Any) -> Any:
        """Opens a page in a context of its own; not `quiet`, its console may hold errors."""
        size = {"width": width, "height": WIDTHS.get(width, 800)}
        context = self._browser.new_context(
            base_url=self._address, viewport=size, **{"reduced_motion": "reduce", **options}
        )
        self._contexts.append(context)
        page = context.new_page()
        if quiet:
            page.on("console", lambda m: self._note(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda error: self._note(str(error)))
        page.on("request", lambda r: self._note(r.url) if self._is_foreign(r.url) else None)
        page.goto(path)
        return page

    def close(self) -> None:
        """Closes all pages."""
        for context in self._contexts:
            context.close()

    def _note(self, fault: str) -> None:
        self.faults.append(fault)

    def _is_foreign(self, url: str) -> bool:
        return not url.startswith((self._address, "data:", "blob:"))


def shot(page: Any, name: str) -> None:
    """Keeps a picture of the whole page."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def fits(page: Any) -> bool:
    """Returns whether the page needs no scrolling sideways."""
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def violations(page: Any) -> list[str]:
    """Returns the faults that axe-core finds; skips where it is not available."""
    try:
        source = axe_source()
    except MissingAxeError as missing:
        pytest.skip(str(missing))
    page.evaluate(source)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {node['html'][:160]} ({node['failureSummary'][:300]})"
        for each in found["violations"]
        for node in each["nodes"]
    ]
