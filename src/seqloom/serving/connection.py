"""The connection to a client: limits of size and speed, and answers in one write."""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from seqloom.serving.admission import Admission
from seqloom.serving.config import ConnectionsConfig
from seqloom.serving.http.encoding import is_encoded, not_encoded
from seqloom.serving.http.problems import ProblemError

_HEALTH = (b"/healthz", b"/readyz")
_PIECE = 16 << 10
"""Most bytes that are parsed before the limits are checked again."""
_MOST_PIPELINED = 16
"""Most requests that wait behind one that is being answered."""
_FRAMING = 16
"""Most bytes of chunk sizes, extensions and trailers for each byte of a chunked body, beyond one head."""
_NO_HTTP = "The bytes are no HTTP/1.1 request. Its target must be ASCII, the rest percent-encoded."
_LINGER_S = 2.0
"""How long input of a refused client is read and discarded, so that the client can read the reason."""


class Connection(HttpToolsProtocol):
    """uvicorn's connection with limits (`ConnectionsConfig`). Sends each answer in one write.

    If a server is killed between two writes, a proxy holds half an answer and cannot retry with another
    server. One write also saves a system call.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        admission: Admission | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._admission = admission or Admission(ConnectionsConfig())
        self._limits = self._admission.config
        self.timeout_keep_alive = self._limits.idle_timeout_s  # type: ignore[assignment]
        self.address: str | None = None
        self.spare: str | None = None
        self._out: _OneWrite
        self._began: float | None = self.loop.time()
        """Since when a head is due: from the start, then from the first byte after an answer."""
        self._head_open = False
        self._head_bytes = 0
        """An upper bound of the bytes of the open head: all bytes of the piece it began in count."""
        self._body_open = False
        self._body_bytes = self._framing_bytes = 0
        self._body_s = 0.0
        """Time spent waiting for the client's body."""
        self._refused: ProblemError | None = None
        """Why this class stopped the parser; None where it did not."""
        self._deaf = False
        """Whether input is discarded."""
        self._linger_until: float | None = None
        self._unsent: tuple[float, int] | None = None
        """Since when unsent bytes wait for the client, and how many it had read by then."""

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._out = _OneWrite(transport, self.loop)
        super().connection_made(cast(asyncio.Transport, self._out))
        self.address = self.client[0] if self.client else None
        self._admission.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._admission.leave(self)
        self._deaf = True
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close the connection without finishing anything."""
        self._deaf = True
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._began is None and not self._body_open:
            self._began = self.loop.time()
        if len(data) <= _PIECE:
            self._receive(data)
            return
        for start in range(0, len(data), _PIECE):
            self._receive(data[start : start + _PIECE])

    def _receive(self, piece: bytes) -> None:
        if self._deaf:
            return
        size = len(piece)
        self._head_bytes = self._head_bytes + size if self._head_open else size
        framing, body = self._body_open, self._body_bytes
        super().data_received(piece)
        if self._head_open:
            limits = self._limits
            if (
                self._head_bytes > limits.max_header_bytes + _PIECE
                or len(self.headers) > limits.max_headers
                or len(self.url) > limits.max_url_bytes
            ):
                self._refuse(self._head_too_large())
        elif self._body_open and framing:
            self._framing_bytes += size - (self._body_bytes - body)
            if self._framing_bytes > self._limits.max_header_bytes + _FRAMING * self._body_bytes:
                self._refuse(_bad_request("The body has more framing than content."))

    # Parser callbacks

    def on_message_begin(self) -> None:
        """See `httptools`."""
        self._head_open = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """See `httptools`."""
        self._refused = self._fault_of_head()
        if self._refused is not None:
            raise self._refused
        kept = self.app
        if self.spare is not None and self.url.partition(b"?")[0] not in _HEALTH:
            self.app = cast(Any, _answer_with(_too_many(self.spare)))
        try:
            super().on_headers_complete()
        finally:
            self.app = kept
        # The parser reports trailers as headers; they must not join the checked ones.
        self.headers = []
        self._head_open, self._began = False, None
        self._body_open, self._body_s = True, 0.0
        self._body_bytes = self._framing_bytes = 0
        self._admission.works(self)
        if self.spare is not None or self.parser.should_upgrade():
            # After an upgrade another protocol follows, which the parser would read as requests.
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """See `httptools`."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See `httptools`."""
        self._body_open = False
        self._linger_until = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called when an answer is with the transport."""
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()  # read on after the pending requests are answered
            return
        if self._body_open:
            self._linger_until = self.loop.time() + self._limits.body_timeout_s
        self._admission.waits(self)

    # Limits

    def _fault_of_head(self) -> ProblemError | None:
        limits = self._limits
        if len(self.url) > limits.max_url_bytes or len(self.headers) > limits.max_headers:
            return self._head_too_large()
        if self._head_bytes > limits.max_header_bytes:
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > limits.max_header_bytes:
                return self._head_too_large()
        if len(self.pipeline) >= _MOST_PIPELINED:
            return _bad_request(f"More than {_MOST_PIPELINED} requests wait for an answer.")
        if not is_encoded(self.url):
            return not_encoded("path")
        if self.parser.should_upgrade() and any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
            for name, value in self.headers
        ):
            return _bad_request(
                "A request with a body cannot upgrade; leave the header Upgrade out."
            )
        return None

    def _head_too_large(self) -> ProblemError:
        limits = self._limits
        if len(self.url) > limits.max_url_bytes:
            return ProblemError(
                414, "url", "The request target is too long",
                f"At most {limits.max_url_bytes} bytes are read.",
            )  # fmt: skip
        return ProblemError(
            431, "headers", "The headers are too large",
            f"At most {limits.max_headers} headers and {limits.max_header_bytes} bytes are read.",
        )  # fmt: skip

    def check_times(self, now: float, elapsed: float) -> None:
        """End the connection if it is too slow at `now`, `elapsed` seconds after the last call."""
        limits = self._limits
        if self._reads_too_slowly(now) or (self._linger_until or now) < now:
            self._admission.observer.connection_ended(
                "slow reader" if self._unsent else "lingering"
            )
            self.abort()
        elif self._deaf:
            return
        elif self._body_open and not self.cycle.response_complete:
            if not self.flow.read_paused:
                self._body_s += elapsed
            if self._body_s > limits.body_timeout_s + self._body_bytes / limits.min_bytes_per_s:
                self._refuse(_timeout("The body came too slowly."))
        elif (
            self._began is not None
            and now - self._began > limits.head_timeout_s
            and (self.cycle is None or self.cycle.response_complete)
        ):
            self._refuse(_timeout("The head of the request came too slowly."))

    def _reads_too_slowly(self, now: float) -> bool:
        waiting = self._out.get_write_buffer_size()
        if not waiting:
            self._unsent = None
            return False
        read = self._out.written - waiting
        if self._unsent is None:
            self._unsent = (now, read)
        since, read_then = self._unsent
        seconds = now - since
        if seconds < self._limits.send_timeout_s:
            return False
        self._unsent = (now, read)
        return read - read_then < self._limits.min_bytes_per_s * seconds

    # Refusals

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn when the parser stops."""
        refused, self._refused = self._refused, None
        self._refuse(refused or _bad_request(_NO_HTTP))

    def _refuse(self, problem: ProblemError) -> None:
        """Answers the request being read with `problem`, after the pending ones, and closes."""
        self._deaf = True
        self._admission.observer.connection_ended(problem.kind)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False
            if not self._body_open:
                return  # a later request: the current one is answered first
            if self.pipeline:
                self.pipeline[0] = (cycle, cast(Any, _answer_with(problem)))
                return
            if cycle.response_started:
                return
            cycle.disconnected = True
            cycle.message_event.set()
        elif self._body_open or (problem.status == 408 and not self._head_open):
            self.transport.close()  # already answered, or no request
            return
        self._unset_keepalive_if_required()
        head, body = _parts(problem)
        lines = [b"%s: %s\r\n" % pair for pair in head]
        self._out.write(b"".join([STATUS_LINE[problem.status], *lines, b"\r\n", body]))
        self._linger_until = self.loop.time() + _LINGER_S
        self._out.write_eof()


class _OneWrite:
    """A transport that joins the writes of one turn of the event loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self.written = 0
        """Bytes handed to the transport so far."""

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def write_eof(self) -> None:
        self._flush()
        if not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            data = b"".join(parts)
            self.written += len(data)
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _parts(problem: ProblemError) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Returns headers and body of a problem, for a request that never reached the application."""
    response = problem.response(request_id := f"{random.getrandbits(64):016x}")
    head = [
        *response.raw_headers,
        (b"x-request-id", request_id.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    return head, bytes(response.body)


def _answer_with(problem: ProblemError) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        head, body = _parts(problem)
        await send({"type": "http.response.start", "status": problem.status, "headers": head})
        await send({"type": "http.response.body", "body": body})

    return app


def _bad_request(detail: str) -> ProblemError:
    return ProblemError(400, "bad-request", "The request cannot be read", detail)


def _timeout(detail: str) -> ProblemError:
    return ProblemError(408, "timeout", "The request took too long", detail)


def _too_many(why: str) -> ProblemError:
    return ProblemError(
        503, "connections", "The server has too many connections",
        f"There are {why}; only the health endpoints answer. Try again soon.",
        headers={"Retry-After": "1"},
    )  # fmt: skip
