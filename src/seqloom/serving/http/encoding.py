"""Strict decoding of requests: UTF-8 in path, query, headers and body.

Servers and frameworks decode with replacement characters or as Latin-1, and `json.loads` accepts lone
surrogates and UTF-16. Each of these lets two different byte strings become one id, so all are refused here.
Unicode is not normalised: an id consists of the characters that were sent.
"""

from __future__ import annotations

import codecs
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.types import Scope

from seqloom.serving.http.problems import FieldFault, ProblemError


def check_encoding(scope: Scope) -> None:
    """Checks the path, the query string and the headers of a request.

    Raises:
        ProblemError: 400, with the invalid part.
    """
    _check_url("path", scope.get("raw_path") or scope["path"].encode())
    if scope["query_string"]:
        _check_url("query", scope["query_string"])
    hosts = 0
    for name, value in scope["headers"]:
        if name == b"host":
            hosts += 1
        if not value.isascii() and not _is_utf8(value):
            raise _unreadable(f"header/{name.decode('latin-1')}", "the value is not UTF-8")
    if hosts > 1 or (not hosts and scope["http_version"] == "1.1"):
        raise _unreadable(
            "header/host", f"found {hosts} of this header; HTTP/1.1 needs exactly one"
        )


class StrictRoute(APIRoute):
    """A route whose JSON body is read strictly: UTF-8, no lone surrogates, no NaN."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """See `APIRoute`."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return strict


class _StrictRequest(Request):
    async def json(self) -> Any:
        """Reads the body by `read_json_body`."""
        return read_json_body(await self.body())


def read_json_body(body: bytes) -> Any:
    """Parses a JSON body strictly, without a byte order mark.

    Raises:
        ProblemError: 400, the body is not JSON.
    """
    try:
        return from_json(body.removeprefix(codecs.BOM_UTF8), allow_inf_nan=False)
    except ValueError as error:  # the message has a position and no part of the body
        fault = FieldFault(pointer="body", detail=str(error))
        raise ProblemError(
            400, "bad-json", "The body is not JSON", str(error), errors=[fault]
        ) from None


def is_encoded(raw: bytes) -> bool:
    """Returns whether a request target consists of allowed characters.

    Parsers cut a target at `#`, so two targets would become one.
    """
    return raw.isascii() and b"#" not in raw


def not_encoded(part: str) -> ProblemError:
    """Returns the problem for a target that is not `is_encoded`."""
    return _unreadable(
        part, "characters beyond ASCII and '#' must be percent-encoded, as UTF-8: é is %C3%A9"
    )


def _check_url(part: str, raw: bytes) -> None:
    """Checks a part of the request target: ASCII whose percent-encoded bytes are UTF-8 without NUL."""
    if not is_encoded(raw):
        raise not_encoded(part)
    if b"%" not in raw:
        return
    decoded = unquote_to_bytes(raw)
    if not _is_utf8(decoded):
        raise _unreadable(part, "percent-encoded bytes must be UTF-8: é is %C3%A9, not %E9")
    if b"\x00" in decoded:
        raise _unreadable(part, "the character NUL (%00) is not allowed")


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _unreadable(pointer: str, detail: str) -> ProblemError:
    fault = FieldFault(pointer=pointer, detail=detail)
    return ProblemError(
        400, "encoding", "The request cannot be read", f"{pointer}: {detail}", errors=[fault]
    )
