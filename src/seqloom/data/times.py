"""Times in any spelling to microseconds since 1970."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from seqloom.core.errors import DataError
from seqloom.data.sources.base import TimestampUnit

SECOND = 1_000_000
_LIMIT = 2**62
_PER_UNIT = {"s": SECOND, "ms": 1000, "us": 1}
_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d", "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M", "%Y/%m/%d %H:%M:%S%.f", "%Y/%m/%d", "%m %d, %Y",
)  # fmt: skip
_ZONED = ("%Y-%m-%dT%H:%M:%S%.f%:z", "%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%d %H:%M:%S%.f %Z")


@dataclass(frozen=True)
class _Place:
    """Names a row of a column in messages."""

    where: str
    locate: Callable[[int], str]

    def __call__(self, row: int) -> str:
        return f"{self.where}, {self.locate(row)}"


@dataclass(frozen=True)
class Times:
    """A column of times."""

    micros: np.ndarray
    """[rows] int64, microseconds since 1970 (UTC where the value names no zone)."""
    missing: np.ndarray
    """[rows] bool."""
    spelling: str
    """What the values were read as: `seconds`, `milliseconds`, ..., `dates`."""


def parse_times(
    column: pl.Series, unit: TimestampUnit, where: str, locate: Callable[[int], str]
) -> Times:
    """Read a column of numbers, dates or strings of either.

    Raises:
        DataError: a value that is no time; names its place.
    """
    if column.dtype.is_decimal():
        column = column.cast(pl.Float64)
    kind = column.dtype
    place = _Place(where, locate)
    if kind == pl.Datetime or kind == pl.Date:
        values = column.cast(pl.Datetime("us")).to_physical()
        return _finish(values, 1, "dates")
    if kind.is_integer() or kind.is_float():
        return _from_numbers(column, unit, place)
    if kind == pl.Null:
        return _finish(column.cast(pl.Int64), 1, "dates")
    if kind != pl.String:
        raise DataError(
            f"{where}: times must be numbers, dates or strings, the column is of {kind}"
        )
    text = column.str.strip_chars()
    text = text.set(text == "", None)
    sample = text.drop_nulls().head(1)
    if len(sample) == 0:
        return _finish(text.cast(pl.Int64), 1, "dates")
    numeric = sample.cast(pl.Float64, strict=False)[0] is not None
    values = _numbers(text) if numeric else _dates(text)
    bad = (values.is_null() & text.is_not_null()).arg_true()
    if len(bad):
        row = int(bad[0])
        allowed = (
            "a number, as the first one is" if numeric else "an ISO date (2014-07-23 10:20:30)"
        )
        raise DataError(
            f"{place(row)}: {text[row]!r} is no timestamp; {allowed} is needed "
            f"({len(bad)} such value{'s' if len(bad) > 1 else ''})"
        )
    return _from_numbers(values, unit, place) if numeric else _finish(values, 1, "dates")


def parse_moment(value: str | int | float, what: str) -> int:
    """One moment given as an option (seconds since 1970 or an ISO date), in whole seconds.

    Raises:
        DataError: it is neither.
    """
    series = pl.Series([str(value)])
    times = parse_times(series, "s", what, lambda row: "value")
    return int(times.micros[0]) // SECOND


def iso(seconds: int) -> str:
    """A moment as `2014-07-23T10:20:30Z`, or the bare number where no calendar reaches."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def _numbers(text: pl.Series) -> pl.Series:
    whole = text.cast(pl.Int64, strict=False)
    if whole.null_count() == text.null_count():
        return whole
    return text.cast(pl.Float64, strict=False)


def _dates(text: pl.Series) -> pl.Series:
    """[rows] microseconds; null where no spelling fits."""
    zoned = text.str.replace(r"(Z|z| UTC)$", "+00:00").str.replace(r"([+-]\d\d)(\d\d)$", "$1:$2")
    found = pl.Series([None], dtype=pl.Int64).extend_constant(None, len(text) - 1)
    for spelling in _FORMATS + _ZONED[:2]:
        if not (found.is_null() & text.is_not_null()).any():
            break
        source = zoned if spelling.endswith("z") else text
        parsed = source.str.to_datetime(spelling, strict=False, time_unit="us").to_physical()
        found = found.zip_with(found.is_not_null(), parsed)
    return found


def _from_numbers(column: pl.Series, unit: TimestampUnit, place: _Place) -> Times:
    values = column.fill_nan(None) if column.dtype.is_float() else column
    if unit == "auto":
        largest = values.abs().max()
        unit = _unit_of(float(largest) if isinstance(largest, int | float) else 0.0)
    spelling = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[
        unit
    ]
    limit = _LIMIT // _PER_UNIT.get(unit, 1)
    bad = ((values > limit) | (values < -limit)).arg_true()
    if len(bad):
        row = int(bad[0])
        raise DataError(f"{place(row)}: {values[row]} is out of range as a time in {spelling}")
    if unit == "ns":
        return _finish(values // 1000, 1, spelling)
    return _finish(values, _PER_UNIT[unit], spelling)


def _unit_of(largest: float) -> TimestampUnit:
    """Seconds reach 1e11 in the year 5138, milliseconds in 1973: nothing in between is a log."""
    if largest < 1e11:
        return "s"
    if largest < 1e14:
        return "ms"
    return "us" if largest < 1e17 else "ns"


def _finish(values: pl.Series, factor: int, spelling: str) -> Times:
    missing = values.is_null().to_numpy()
    if values.dtype.is_float():
        scaled = (values * factor).round().fill_null(0).cast(pl.Int64)
    else:
        scaled = values.cast(pl.Int64).fill_null(0) * factor
    return Times(scaled.to_numpy(), missing, spelling)
