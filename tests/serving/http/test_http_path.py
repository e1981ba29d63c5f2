"""The way of `POST /v1/recommend` from the application to the scores, in files.

Counted are the files of seqloom with a function that runs, in the thread of the event loop or in a worker,
between the call of the ASGI application and the call of the scorer; the scorer's own file is not. Code that
runs in no function of its own (generated `__init__`s, attributes) counts with nobody.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from fastapi import FastAPI

import seqloom
from seqloom.serving.config import ServerConfig
from seqloom.serving.engine.engine import Engine
from seqloom.serving.http.app import build_app
from seqloom.serving.http.metrics import Metrics
from seqloom.serving.store.sqlite import SqliteStore

PACKAGE = Path(seqloom.__file__).parent
MOST_FILES = 12
LAYERS = ["serving/http", "serving/engine", "inference"]
"""Of the files on the way, from above to below."""
ASKED = {"score", "queries", "best"}
"""Methods of scorers."""


class Trace:
    """Records the files that are entered for the first time, from `start` to the scorer."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.by_worker: set[str] = set()
        """Files that another thread than the event loop's entered."""
        self.active = False
        self.reached = ""

    def start(self) -> None:
        self.active = True

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if not self.active or event != "call":
            return
        file = Path(frame.f_code.co_filename)
        if not file.is_relative_to(PACKAGE):
            return
        name = file.relative_to(PACKAGE).as_posix()
        if name.startswith("systems/") and frame.f_code.co_name in ASKED:
            self.active, self.reached = False, f"{name}:{frame.f_code.co_name}"
            return
        if name not in self.files:
            self.files.append(name)
        if threading.current_thread() is not threading.main_thread():
            self.by_worker.add(name)


@pytest.fixture
def trace() -> Iterator[Trace]:
    """A trace of this thread and of all threads that start after it."""
    trace = Trace()
    threading.setprofile(trace)
    sys.setprofile(trace)
    yield trace
    sys.setprofile(None)
    threading.setprofile(None)


@pytest.fixture
def app(trace: Trace, runs: dict[str, Path], tmp_path: Path) -> Iterator[FastAPI]:
    store = SqliteStore(tmp_path / "s.db")
    engine = Engine(runs, store)
    yield build_app(ServerConfig(auth=False), engine, store, Metrics())
    engine.close()
    store.close()


async def post(app: FastAPI, document: dict[str, Any], before: Any) -> tuple[int, bytes]:
    body = json.dumps(document).encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/recommend",
        "raw_path": b"/v1/recommend",
        "query_string": b"",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)  # starts what starts once
    sent.clear()
    before()
    await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize("model", ["llmesr", "itemknn"])
def test_a_request_passes_few_files_and_goes_downhill(
    model: str, app: FastAPI, trace: Trace
) -> None:
    document = {"history": ["i3", "i7", "i11"], "model": model, "details": True}
    status, body = asyncio.run(post(app, document, trace.start))
    assert status == 200, body
    assert trace.reached, "the scorer was not called"
    assert len(trace.files) <= MOST_FILES, " ".join(trace.files)
    # Downhill: the files of one layer stand together, and a worker calls nothing above itself.
    layers = [layer for file in trace.files for layer in LAYERS if file.startswith(layer)]
    assert layers == sorted(layers, key=LAYERS.index), trace.files
    assert not any(file.startswith("serving/http") for file in trace.by_worker)
    assert "serving/engine/engine.py" not in trace.by_worker
