"""A route that reads a JSON body and calls its endpoint, without the machinery of FastAPI's routes.

`POST /v1/recommend` is the most frequent request, and FastAPI's dependencies and response models take half
of its Python time. FastAPI documents the endpoint in the OpenAPI document; this route, registered before
it, answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import URLPath
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

from seqloom.serving.http.authorization import RequireScope
from seqloom.serving.http.context import Context
from seqloom.serving.http.encoding import read_json_body


class DirectRoute(BaseRoute):
    """Answers `POST path`; other methods reach the routes after it.

    Faults of the body are raised as FastAPI raises them, so every endpoint has the same problem documents.
    """

    def __init__(
        self,
        path: str,
        body: type[BaseModel],
        endpoint: Callable[[Any, Context], Awaitable[Response]],
        needs: RequireScope,
        context: Context,
    ) -> None:
        self.path = path
        self._body = body
        self._endpoint = endpoint
        self._needs = needs
        self._context = context

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See `BaseRoute`."""
        if scope["path"] == self.path and scope["type"] == "http" and scope["method"] == "POST":
            return Match.FULL, {"route": self}
        return Match.NONE, {}

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """See `BaseRoute`."""
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `BaseRoute`.

        Raises:
            ProblemError: 400, the body is not JSON; 403, the token lacks the scope.
            RequestValidationError: the body does not match the model.
        """
        request = Request(scope, receive)
        try:
            body = await request.body()
        except ClientDisconnect:
            return
        await self._needs(request)
        response = await self._endpoint(self._read(body, request), self._context)
        await response(scope, receive, send)

    def _read(self, body: bytes, request: Request) -> BaseModel:
        json = _is_json(request.headers.get("content-type", ""))
        try:
            if json:
                return self._body.model_validate_json(body)
        except ValidationError:
            pass  # the slow path below names the fault or removes a byte order mark
        if not body:
            missing = {"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}
            raise RequestValidationError([missing])
        value = read_json_body(body) if json else body
        try:
            return self._body.model_validate(value, from_attributes=True)
        except ValidationError as error:
            faults = error.errors(include_url=False)
            raise RequestValidationError(
                [{**fault, "loc": ("body", *fault["loc"])} for fault in faults]
            ) from None


def _is_json(content_type: str) -> bool:
    """Returns whether FastAPI takes a media type for JSON."""
    kind, _, rest = content_type.partition(";")[0].strip().lower().partition("/")
    return kind == "application" and (rest == "json" or rest.endswith("+json"))
