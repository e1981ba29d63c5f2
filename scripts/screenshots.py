"""Takes the pictures of the documentation, for instance from the artefacts of `seqloom demo`.

    python scripts/screenshots.py work/demo/report.html work/demo/runs/llmesr work/demo/runs/sasrec

writes `docs/images/report.png` (the report of `compare`), `docs/images/explorer.png` (the explorer of
`serve`) and the whole explorer at three widths, `docs/images/explorer-WIDTH.png`. Needs playwright and
chromium, as the tests of the explorer do.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIZE = {"width": 1180, "height": 760}
WIDTHS = (390, 768, 1280)
MOST_BYTES = 300_000


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path, help="a report of `seqloom compare` or `seqloom demo`")
    parser.add_argument("runs", type=Path, nargs="+", help="the runs that the explorer shows")
    paths = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    with open_page() as page:
        save_report(page, paths.report)
        with serve(paths.runs) as address:
            save_explorer(page, address)


@contextmanager
def open_page() -> Iterator[Page]:
    """Opens a page of headless Chromium in light colours."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser.new_page(viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]
        browser.close()


@contextmanager
def serve(runs: list[Path]) -> Iterator[str]:
    """Serves the runs with a store of their own while the block runs; gives the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{folder}/seqloom.db"
        options = ["--port", str(port), "--store", store]
        command = [sys.executable, "-m", "seqloom", "serve", *map(str, runs), *options]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until_ready(address, server)
            yield address
        finally:
            server.terminate()
            server.wait()


def wait_until_ready(address: str, server: subprocess.Popen[bytes], timeout_s: float = 120) -> None:
    """Returns when the server answers; raises where it ends or does not answer in time."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end and server.poll() is None:
        try:
            if httpx.get(f"{address}/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError("the server did not start")


def save_explorer(page: Page, address: str) -> None:
    """Writes the explorer on its example user, with the explanation of the first item."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(address)
        page.locator("#why .two-ways").nth(1).wait_for()
        page.locator("#lanes i.raises, #lanes i.lowers").first.wait_for(state="attached")
        page.wait_for_load_state("networkidle")
        path = IMAGES / f"explorer-{width}.png"
        page.screenshot(path=path, full_page=True)
        if path.stat().st_size > MOST_BYTES:
            raise RuntimeError(f"{path} has more than {MOST_BYTES:,} bytes")
    save(page, "explorer")


def save(page: Page, name: str) -> None:
    """Writes the visible part of the page as a PNG."""
    page.screenshot(path=IMAGES / f"{name}.png")


def save_report(page: Page, report: Path) -> None:
    """Writes the top of a report: `report.png`, and `report-WIDTH.png` at three widths."""
    page.goto(report.resolve().as_uri())
    save(page, "report")
    for width, height in {390: 1400, 768: 1400, 1280: 1600}.items():
        page.set_viewport_size({"width": width, "height": height})
        save(page, f"report-{width}")
    page.set_viewport_size(SIZE)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
