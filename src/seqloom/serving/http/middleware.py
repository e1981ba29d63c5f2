"""The middleware of every request: request id, token, size of the body, metrics and log."""

from __future__ import annotations

import logging
import random
import re
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seqloom.serving.config import ServerConfig
from seqloom.serving.http.authorization import Authorizer
from seqloom.serving.http.encoding import check_encoding
from seqloom.serving.http.metrics import Metrics
from seqloom.serving.http.problems import ProblemError, problem_of
from seqloom.serving.http.validation import too_large

_LOG = logging.getLogger("seqloom.serving")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestMiddleware:
    """The outermost ASGI middleware."""

    def __init__(
        self, app: ASGIApp, authorizer: Authorizer, metrics: Metrics, config: ServerConfig
    ) -> None:
        self._app = app
        self._authorizer = authorizer
        self._metrics = metrics
        self._most = config.limits.max_body_bytes
        self._log_user_data = config.log_user_data

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(64):016x}"
        state = scope.setdefault("state", {})
        state["request_id"], state["token"] = request_id, None
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                out = MutableHeaders(scope=message)
                out["x-request-id"] = request_id
                out["x-content-type-options"] = "nosniff"
                out.setdefault("cache-control", "no-store")
            await send(message)

        self._metrics.in_flight.inc()
        try:
            check_encoding(scope)
            state["token"] = await self._authorizer.admit(scope["path"], headers)
            self._check_length(headers)
            await self._app(scope, self._limit_body(receive), send_with_headers)
        except Exception as error:
            # The application could not turn the error into a response.
            if status:
                raise
            problem = problem_of(error, request_id)
            await problem.response(request_id)(scope, receive, send_with_headers)
        finally:
            self._metrics.in_flight.dec()
            self._record(scope, status, time.perf_counter() - began, request_id)

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise ProblemError(
                400, "bad-request", "The request cannot be read", "Bad Content-Length."
            )
        if int(length) > self._most:
            raise too_large(self._most)

    def _limit_body(self, receive: Receive) -> Receive:
        """Wraps `receive` to limit bodies that do not declare their length."""
        seen = 0

        async def receive_counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._most:
                    raise too_large(self._most)
            return message

        return receive_counted

    def _record(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.request(route, scope["method"], status, seconds)
        if not _LOG.isEnabledFor(logging.INFO):
            return
        fields = {
            "request_id": request_id,
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 2),
        }
        token = scope["state"]["token"]
        if token is not None:
            fields["token"] = token.token_id
        if self._log_user_data:
            fields["path"] = scope["path"]
            fields["query"] = scope["query_string"].decode("latin-1")
        _LOG.info("request", extra={"fields": fields})
