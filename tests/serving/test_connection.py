"""How an answer leaves the server."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from seqloom.serving.connection import Connection


class Transport(asyncio.Transport):
    """What was written, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def app(scope: Any, receive: Any, send: Any) -> None:
    head = [(b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": b"lists"})


def answer(request: bytes, closes_early: bool = False) -> Transport:
    async def asked() -> Transport:
        config = uvicorn.Config(app, http=Connection, log_config=None, lifespan="off")
        config.load()
        connection = Connection(config, ServerState(), {})
        transport = Transport()
        connection.connection_made(transport)
        connection.data_received(request)
        transport.closed = closes_early
        for _ in range(5):
            await asyncio.sleep(0)
        return transport

    return asyncio.run(asked())


def test_head_and_body_leave_in_one_write() -> None:
    transport = answer(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    (whole,) = transport.writes
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
    assert whole.endswith(b"\r\n\r\nlists")
    assert not transport.closed


def test_an_answer_leaves_before_the_connection_is_closed() -> None:
    transport = answer(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert len(transport.writes) == 1
    assert transport.closed


def test_nothing_is_written_to_a_client_that_went() -> None:
    assert answer(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", closes_early=True).writes == []
