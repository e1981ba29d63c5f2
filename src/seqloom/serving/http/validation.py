"""Validates requests against the limits of the server."""

from __future__ import annotations

from seqloom.serving.config import LimitsConfig
from seqloom.serving.http.problems import ProblemError, invalid
from seqloom.serving.http.requests import (
    BatchRequest,
    CompareRequest,
    EventsRequest,
    ExplainRequest,
    ItemRequest,
    PreviewRequest,
    RecommendRequest,
)

_MOST_COLUMNS = 100


def check_recommend(request: RecommendRequest, limits: LimitsConfig, at: str = "body") -> None:
    """Raises `ProblemError` where the request is too large."""
    _check_most(f"{at}/k", request.k, limits.max_k)
    _check_most(f"{at}/history", len(request.history or ()), limits.max_history, "entries")
    _check_most(f"{at}/exclude", len(request.exclude), limits.max_candidates, "entries")
    _check_most(f"{at}/candidates", len(request.candidates or ()), limits.max_candidates, "entries")


def check_batch(request: BatchRequest, limits: LimitsConfig) -> None:
    """Raises `ProblemError` where there are too many requests, or one of them is too large."""
    _check_most("body/requests", len(request.requests), limits.max_batch, "entries")
    for number, each in enumerate(request.requests):
        check_recommend(each, limits, f"body/requests/{number}")


def check_explain(request: ExplainRequest, limits: LimitsConfig) -> None:
    """Raises `ProblemError` where the history is too long."""
    _check_most("body/history", len(request.history or ()), limits.max_history, "entries")


def check_compare(request: CompareRequest, limits: LimitsConfig) -> None:
    """Raises `ProblemError` where lists or history are too long."""
    _check_most("body/k", request.k, limits.max_k)
    _check_most("body/history", len(request.history or ()), limits.max_history, "entries")


def check_preview(request: PreviewRequest, limits: LimitsConfig) -> None:
    """Raises `ProblemError` where texts or history are too long, or all texts are empty."""
    check_item(request, limits)
    _check_most("body/history", len(request.history or ()), limits.max_history, "entries")


def check_events(request: EventsRequest, limits: LimitsConfig) -> None:
    """Raises `ProblemError` where there are too many events."""
    _check_most("body/events", len(request.events), limits.max_events, "entries")


def check_item(request: ItemRequest | PreviewRequest, limits: LimitsConfig) -> None:
    """Raises `ProblemError` where a text is too long or all texts are empty."""
    _check_most("body/attributes", len(request.attributes), _MOST_COLUMNS, "entries")
    for name, text in request.attributes.items():
        _check_most("body/attributes", len(name), limits.max_text_length, "characters")
        _check_most(f"body/attributes/{name}", len(text), limits.max_text_length, "characters")
    if not any(text.strip() for text in request.attributes.values()):
        raise invalid("body/attributes", "at least one attribute must hold text")


def check_k(k: int, limits: LimitsConfig) -> None:
    """Raises `ProblemError` where the list is too long."""
    _check_most("query/k", k, limits.max_k)


def too_large(limit: int) -> ProblemError:
    """Returns the problem of a body over the limit."""
    return ProblemError(
        413, "too-large", "The body is too large", f"At most {limit} bytes are read."
    )


def _check_most(pointer: str, size: int, allowed: int, unit: str = "") -> None:
    if size > allowed:
        measured = f"{size} {unit}".strip()
        raise invalid(pointer, f"found {measured}; at most {allowed} are allowed")
