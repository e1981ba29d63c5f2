"""The shortest way to the endpoint that is asked most."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seqloom.serving.http.context import Context
from seqloom.serving.http.guard import Needs

_JSON = (b"content-type", b"application/json")


class Shortcut:
    """ASGI middleware inside the gate: answers one POST without routing and dependencies.

    They take longer than all else that Python does for a request. The application has the same endpoint
    and describes it; a request that is not in order goes there, so that faults are told the same
    everywhere.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        body: type[BaseModel],
        endpoint: Callable[[Any, Context], Awaitable[Response]],
        needs: Needs,
        context: Context,
    ) -> None:
        self.path = path
        """For the metrics, which name requests by their route."""
        self._app = app
        self._body = body
        self._endpoint = endpoint
        self._needs = needs
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope.get("path") != self.path or scope.get("method") != "POST" or not _plain(scope):
            await self._app(scope, receive, send)
            return
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        if messages[-1]["type"] != "http.request":
            return  # the client left in the middle of the body
        try:
            body = self._body.model_validate_json(b"".join(m.get("body", b"") for m in messages))
        except ValidationError:
            await self._app(scope, _again(messages, receive), send)
            return
        scope["route"] = self
        await self._needs(Request(scope))
        response = await self._endpoint(body, self._context)
        await response(scope, receive, send)


def _plain(scope: Scope) -> bool:
    """Whether the body is JSON of a length that was told, which the gate has checked."""
    headers = scope["headers"]
    return _JSON in headers and any(name == b"content-length" for name, _ in headers)


def _again(messages: list[Message], receive: Receive) -> Receive:
    """`receive` that gives once more what was read already."""
    left = iter(messages)

    async def receiving() -> Message:
        message = next(left, None)
        return await receive() if message is None else message

    return receiving
