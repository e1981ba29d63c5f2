"""Times in a post of events: the spellings and units of `prepare`, and no far future."""

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
"""Seconds from 1973 to 2030: most of what comes, and no other spelling is among them."""


def is_quick(events: Sequence[EventIn]) -> bool:
    """Whether `moments` takes no longer than the request itself."""
    return all(e.timestamp is None or _quick(e.timestamp) is not None for e in events)


def moments(events: Sequence[EventIn]) -> list[int]:
    """Seconds since 1970 of each event, now where it names none.

    Raises:
        ProblemError: 422, a time is none or lies in the far future.
    """
    now = int(time.time())
    return [
        now
        if each.timestamp is None
        else _moment(each.timestamp, f"body/events/{n}/timestamp", now)
        for n, each in enumerate(events)
    ]


def _moment(value: int | float | str, pointer: str, now: int) -> int:
    found = _quick(value)
    if found is None:
        found = _parsed(value, pointer)
    if found > now + AHEAD_S:
        raise _future(pointer, found, now)
    return found


def _future(pointer: str, found: int, now: int) -> ProblemError:
    return invalid(
        pointer,
        f"the time is {(found - now) // 86400:,} days in the future; at most a day after the server's "
        f"clock ({iso(now)}) is allowed; {_ALLOWED}",
    )


def _quick(value: int | float | str) -> int | None:
    """The moment where the value is of a common spelling; what `parse_times` makes of it too."""
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


def _parsed(value: int | float | str, pointer: str) -> int:
    wrong = invalid(pointer, f"this is no time; {_ALLOWED}")
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
