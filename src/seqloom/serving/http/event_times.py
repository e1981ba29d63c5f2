"""Times of posted events: the formats and units of `prepare`, without the far future."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl

from seqloom.core.errors import DataError
from seqloom.data.timestamps import SECOND, iso, parse_times
from seqloom.serving.http.problems import ProblemError, invalid
from seqloom.serving.http.requests import EventIn

AHEAD_S = 24 * 3600
"""How far a time may be ahead of the server's clock."""
_ALLOWED = (
    "allowed: seconds, milliseconds, microseconds or nanoseconds since 1970, or a date such as "
    "2014-07-23T10:20:30Z"
)
_ISO = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII
)
_CENTURY = range(10**8, 19 * 10**8)
"""Seconds from 1973 to 2030: the most common format. No other format has numbers in this range."""


def is_fast(events: Sequence[EventIn]) -> bool:
    """Returns whether `event_times` takes no longer than parsing the request."""
    return all(e.timestamp is None or _parse_common(e.timestamp) is not None for e in events)


def event_times(events: Sequence[EventIn]) -> list[int]:
    """Returns the seconds since 1970 of each event; now for events without a time.

    Raises:
        ProblemError: 422, a time is invalid or lies in the far future.
    """
    now = int(time.time())
    return [
        now
        if each.timestamp is None
        else _event_time(each.timestamp, f"body/events/{n}/timestamp", now)
        for n, each in enumerate(events)
    ]


def _event_time(value: int | float | str, pointer: str, now: int) -> int:
    seconds = _parse_common(value)
    if seconds is None:
        seconds = _parse(value, pointer)
    if seconds > now + AHEAD_S:
        raise _future(pointer, seconds, now)
    return seconds


def _future(pointer: str, seconds: int, now: int) -> ProblemError:
    return invalid(
        pointer,
        f"the time is {(seconds - now) // 86400:,} days in the future; at most a day after the "
        f"server's clock ({iso(now)}) is allowed; {_ALLOWED}",
    )


def _parse_common(value: int | float | str) -> int | None:
    """Parses the common formats fast; None for others. Agrees with `parse_times`."""
    if isinstance(value, int):
        if value in _CENTURY:
            return value
        return value // 1000 if value // 1000 in _CENTURY else None
    if isinstance(value, str) and _ISO.fullmatch(value):
        try:
            moment = datetime.fromisoformat(value)
            zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            return math.floor(zoned.timestamp())
        except (ValueError, OverflowError):
            return None
    return None


def _parse(value: int | float | str, pointer: str) -> int:
    wrong = invalid(pointer, f"not a valid time; {_ALLOWED}")
    if isinstance(value, int) and abs(value) >= 2**62:
        raise wrong
    if isinstance(value, float) and not math.isfinite(value):
        raise wrong
    try:
        times = parse_times(pl.Series([value]), "auto", "event", lambda row: "time")
    except (DataError, pl.exceptions.PolarsError):
        raise wrong from None
    if times.missing[0]:
        raise wrong
    return int(times.micros[0]) // SECOND
