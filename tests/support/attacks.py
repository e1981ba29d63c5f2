"""Clients that misbehave, on loopback: raw bytes, silent and slow connections."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqloom.serving.config import ServerConfig
from seqloom.serving.server import Server

HOST = b"host: localhost\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"


@contextlib.contextmanager
def running(runs: dict[str, Path], folder: Path, **settings: Any) -> Iterator[Server]:
    """Runs a server in a thread of this process."""
    config = ServerConfig.build({"port": 0, "store": f"sqlite:///{folder / 's.db'}", **settings})
    server = Server(runs, config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(30)


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))


def head(path: str, *headers: bytes, method: str = "POST") -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return f"{method} {path} HTTP/1.1\r\n".encode() + HOST + lines + b"\r\n"


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    length = b"content-length: %d" % len(body)
    return head(path, b"content-type: application/json", length, *headers) + body


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def problem(self) -> str:
        """The kind of the problem document."""
        assert self.headers["content-type"] == "application/problem+json", self
        document = json.loads(self.body)
        assert document["status"] == self.status
        assert document["request_id"] == self.headers["x-request-id"]
        return document["type"].removeprefix("urn:seqloom:problem:")


def read_all(connection: socket.socket) -> list[Answer]:
    """Returns all answers until the server closes; none where it resets."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while got := connection.recv(1 << 16):
            data += got
    answers = []
    while data:
        start, _, data = data.partition(b"\r\n\r\n")
        first, *lines = start.decode().split("\r\n")
        headers: dict[str, Any] = dict(line.split(": ", 1) for line in lines)
        length = int(headers.get("content-length", 0))
        answers.append(Answer(int(first.split()[1]), headers, data[:length]))
        data = data[length:]
    return answers


def ask(port: int, data: bytes, *, source: str = "127.0.0.1") -> list[Answer]:
    """Sends bytes on a new connection; returns all answers until the server closes it."""
    with connect(port, source) as connection:
        with contextlib.suppress(ConnectionError):  # refused while there is more to send
            connection.sendall(data)
        return read_all(connection)


def drip(connection: socket.socket, piece: bytes, every_s: float, most: int) -> float:
    """Sends a piece repeatedly until the server closes; returns the seconds that it took."""
    began = time.monotonic()
    connection.settimeout(every_s)
    for _ in range(most):
        try:
            connection.sendall(piece)
            if not connection.recv(1 << 16):
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    return time.monotonic() - began


def resident_mb() -> float:
    """Returns the memory of this process in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")
