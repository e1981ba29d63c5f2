"""A server of runs in a thread, and calls of its interface."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def live_server(runs: Mapping[str, Path], store: Path) -> Iterator[str]:
    """Serves the runs on a free port while the block runs; gives the address."""
    from seqloom.serving.config import ServerConfig
    from seqloom.serving.server import Server

    server = Server(dict(runs), ServerConfig(port=0, store=f"sqlite:///{store}"))
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server.summary()["url"]
    server.stop()
    thread.join(30)


def post(client: Any, path: str, status: int = 200, **body: Any) -> Any:
    """Posts to `/v1/PATH`, checks the status, and returns the document."""
    answer = client.post(f"/v1/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def ids(reply: Any) -> list[str]:
    """Returns the items of a list."""
    return [item["item_id"] for item in reply["items"]]
