"""Errors as problem documents.

Source: RFC 9457.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from seqloom.core.errors import ArtefactError, EmbeddingError, SeqloomError, StoreError
from seqloom.serving.engine.answering import UnknownItemError
from seqloom.serving.engine.engine import UnknownModelError
from seqloom.serving.engine.explaining import NothingToExplainError
from seqloom.serving.engine.model import NoSteeringError
from seqloom.serving.engine.scheduler import ClosedError, OverloadedError
from seqloom.text.about import AboutError

MEDIA_TYPE = "application/problem+json"
_LOG = logging.getLogger("seqloom.serving")
_PREFIX = "urn:seqloom:problem:"
_LONGEST_POINTER = 200

_KINDS: dict[type[SeqloomError], tuple[int, str, str, str | None]] = {
    UnknownModelError: (
        404, "unknown-model", "No such model",
        "No model of this name is served; GET /v1/models lists those that are.",
    ),
    UnknownItemError: (404, "unknown-item", "No such item", "The model does not know this item."),
    NoSteeringError: (
        422, "no-steering", "The model cannot follow a sentence",
        "Its catalogue has no text, or its data set no text embedding (`seqloom embed` makes one).",
    ),
    AboutError: (422, "about", "The sentence cannot be followed", None),
    NothingToExplainError: (422, "nothing-to-explain", "Nothing to explain", None),
    OverloadedError: (503, "overloaded", "Too many requests are waiting", None),
    ClosedError: (503, "closing", "The server is shutting down", None),
}  # fmt: skip
"""Status, kind, title, and a detail that replaces a message that would repeat the request."""
_STATUSES = {
    400: ("bad-request", "The request cannot be read"),
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Method not allowed"),
}


class FieldFault(BaseModel):
    """A fault of one part of a request."""

    pointer: str
    """The location: body, query or path, then the names of the fields."""
    detail: str
    """What was expected."""


class ProblemDocument(BaseModel):
    """An error in the format of RFC 9457."""

    type: str = Field(description="Identifies the kind of problem.")
    title: str = Field(description="The kind of problem in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What went wrong in this request.")
    request_id: str | None = Field(None, description="Quote it in a report; the log has it too.")
    errors: list[FieldFault] | None = Field(None, description="The parts that are wrong.")


class ProblemError(HTTPException):
    """Raised by an endpoint to end a request; `kind` is the last part of the problem's type.

    An `HTTPException`, because FastAPI replaces other errors that are raised while it reads a body.
    """

    headers: dict[str, str]

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        *,
        errors: list[FieldFault] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.status = status
        self.kind = kind
        self.title = title
        self.errors = errors

    def document(self, request_id: str | None = None) -> dict[str, Any]:
        """Returns the problem as plain JSON data."""
        document = ProblemDocument(
            type=_PREFIX + self.kind,
            title=self.title,
            status=self.status,
            detail=self.detail,
            request_id=request_id,
            errors=self.errors,
        )
        return document.model_dump(exclude_none=True)

    def response(self, request_id: str | None = None) -> Response:
        """Returns the problem as a response."""
        return Response(
            to_json(self.document(request_id)), self.status, self.headers, media_type=MEDIA_TYPE
        )


def invalid(pointer: str, detail: str) -> ProblemError:
    """Returns the problem of a well-formed request with a value that is not allowed."""
    fault = FieldFault(pointer=pointer[:_LONGEST_POINTER], detail=detail)
    return ProblemError(422, "invalid", "The request is not valid", detail, errors=[fault])


def problem_of(error: BaseException, request_id: str | None = None) -> ProblemError:
    """Returns the problem of an error. Unforeseen errors are logged, their messages not sent."""
    if isinstance(error, ProblemError):
        return error
    for cls, (status, kind, title, detail) in _KINDS.items():
        if isinstance(error, cls):
            headers = {"Retry-After": "1"} if status == 503 else None
            return ProblemError(status, kind, title, detail or str(error), headers=headers)
    # Messages may name hosts and folders: only the log has them.
    fields = {"request_id": request_id, "error": str(error)}
    if isinstance(error, ArtefactError):
        _LOG.error("cannot read a file", extra={"fields": fields})
        return ProblemError(
            409,
            "damaged-file",
            "A file of the run cannot be read",
            "A file of the run is missing or damaged; the log names it under the request's id.",
        )
    if isinstance(error, StoreError):
        _LOG.error("store failed", extra={"fields": fields})
        return ProblemError(
            503,
            "store",
            "The store does not answer",
            "Try again soon.",
            headers={"Retry-After": "1"},
        )
    if isinstance(error, EmbeddingError):
        _LOG.error("text encoder failed", extra={"fields": fields})
        return ProblemError(
            503,
            "encoder",
            "The text encoder does not answer",
            "Try again soon.",
            headers={"Retry-After": "1"},
        )
    _LOG.error("unexpected error", exc_info=error, extra={"fields": {"request_id": request_id}})
    return ProblemError(500, "internal", "Internal error", "The log has it under the request's id.")


def install(app: FastAPI) -> None:
    """Makes `app` answer every error with a problem document."""

    async def on_error(request: Request, error: Exception) -> Response:
        request_id = request.state.request_id
        return problem_of(error, request_id).response(request_id)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _invalid_request(error).response(request.state.request_id)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind, title = _STATUSES.get(error.status_code, ("http", str(error.detail)))
        problem = ProblemError(
            error.status_code, kind, title, str(error.detail), headers=error.headers
        )
        return problem.response(request.state.request_id)

    app.add_exception_handler(ProblemError, on_error)
    app.add_exception_handler(SeqloomError, on_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)


def _invalid_request(error: RequestValidationError) -> ProblemError:
    """Lists the fault of each field. Invalid values are not repeated: they may be personal data."""
    faults = [
        FieldFault(pointer="/".join(map(str, each["loc"]))[:_LONGEST_POINTER], detail=each["msg"])
        for each in error.errors()
    ]
    first = f"{faults[0].pointer}: {faults[0].detail}"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return ProblemError(
        422, "invalid", "The request is not valid", first + more, errors=faults[:100]
    )
