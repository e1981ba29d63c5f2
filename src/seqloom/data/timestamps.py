"""Parses times in any format to microseconds since 1970."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import polars as pl

from seqloom.core.errors import DataError
from seqloom.data.date_formats import DayOrder, read_compact, read_dates, read_format
from seqloom.data.options import TimestampUnit

SECOND = 1_000_000
_LIMIT = 2**62
_PER_UNIT = {"s": SECOND, "ms": 1000, "us": 1}


@dataclass(frozen=True)
class _Place:
    """Describes a row of a column in messages."""

    where: str
    locate: Callable[[int], str]

    def __call__(self, row: int) -> str:
        return f"{self.where}, {self.locate(row)}"


@dataclass(frozen=True)
class Times:
    """A column of parsed times."""

    micros: np.ndarray
    """[rows] int64, microseconds since 1970 (UTC where the value names no zone)."""
    missing: np.ndarray
    """[rows] bool."""
    spelling: str
    """How the numbers were read: `seconds`, `milliseconds`, ..., `compact dates` (20140723); `dates` where
    the column has no numbers."""
    dates: int = 0
    """Number of values that are written as dates."""
    order: DayOrder | None = None
    """The order of day and month in dates such as 12/1/2009; None without such dates."""

    @property
    def mixed(self) -> int:
        """Number of values of the rarer kind, where some are numbers and others dates."""
        return min(self.dates, int((~self.missing).sum()) - self.dates)


def parse_times(
    column: pl.Series,
    unit: TimestampUnit,
    where: str,
    locate: Callable[[int], str],
    *,
    format: str | None = None,
    day_first: bool | None = None,
) -> Times:
    """Parses a column of numbers, dates or strings of either.

    `format` is the format of all values (`strptime`); `day_first` decides dates such as 1/2/2009 where no
    value of the column does.

    Raises:
        DataError: a value is not a time; the message names its place.
    """
    if column.dtype.is_decimal():
        column = column.cast(pl.Float64)
    kind = column.dtype
    place = _Place(where, locate)
    if kind == pl.Datetime or kind == pl.Date:
        values = column.cast(pl.Datetime("us")).to_physical()
        return _finish(values, 1, "dates")
    if kind == pl.Null:
        return _finish(column.cast(pl.Int64), 1, "dates")
    if format is not None:
        return _by_format(column, format, place)
    if kind.is_integer() or kind.is_float():
        return _from_numbers(column, unit, place)
    if kind != pl.String:
        raise DataError(
            f"{where}: times must be numbers, dates or strings, but the column has type {kind}; convert it, "
            "or name another column with timestamp_column"
        )
    return _from_strings(column, unit, place, day_first)


def _from_strings(
    column: pl.Series, unit: TimestampUnit, place: _Place, day_first: bool | None
) -> Times:
    """Parses strings that hold numbers, dates or both."""
    text = column.str.strip_chars()
    text = text.set(text == "", None)
    numbers = _numbers(text)
    rows = (numbers.is_null() & text.is_not_null()).arg_true()
    if len(rows) == 0:
        return _from_numbers(numbers, unit, place)
    dates = read_dates(text.gather(rows), day_first)
    if dates.clash is not None:
        first, second = (int(rows[at]) for at in dates.clash)
        raise DataError(
            f"{place(first)}: {text[first]!r} has the month first, but {text[second]!r} "
            f"({place.locate(second)}) the day; write all dates in one order"
        )
    bad = dates.micros.is_null().arg_true()
    if len(bad):
        row = int(rows[int(bad[0])])
        raise DataError(
            f"{place(row)}: {text[row]!r} is not a timestamp ({len(bad)} such "
            f"value{'s' if len(bad) > 1 else ''}); use a number or a date (2014-07-23 10:20:30), or set "
            "time_format for another format"
        )
    if numbers.null_count() == len(numbers):
        micros = pl.Series([None], dtype=pl.Int64).new_from_index(0, len(text))
        times = _finish(micros.scatter(rows, dates.micros), 1, "dates")
    else:
        times = _from_numbers(numbers, unit, place)
        times.micros[rows.to_numpy()] = dates.micros.to_numpy()
        times.missing[rows.to_numpy()] = False
    return replace(times, dates=len(rows), order=dates.order)


def _by_format(column: pl.Series, format: str, place: _Place) -> Times:
    """Parses values in the format of the option `time_format`."""
    text = column
    if column.dtype.is_float():
        text = column.fill_nan(None).cast(pl.Int64, strict=False)
    text = text.cast(pl.String).str.strip_chars()
    text = text.set(text == "", None)
    values = read_format(text, format)
    bad = (values.is_null() & text.is_not_null()).arg_true()
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"{place(row)}: {text[row]!r} does not fit time_format={format!r} ({len(bad)} such "
            f"value{'s' if len(bad) > 1 else ''}); correct the value or the format"
        )
    times = _finish(values, 1, "dates")
    return replace(times, dates=int((~times.missing).sum()))


def parse_moment(value: str | int | float, what: str) -> int:
    """Parses a time given as an option (seconds since 1970 or an ISO date), to whole seconds.

    Raises:
        DataError: it is neither.
    """
    series = pl.Series([str(value)])
    times = parse_times(series, "s", what, lambda row: "value")
    if times.order is not None and times.order.undecided:
        raise DataError(f"{what}: {times.order.undecided}; write it as an ISO date (2014-07-23)")
    return int(times.micros[0]) // SECOND


def iso(seconds: int) -> str:
    """Formats a time as `2014-07-23T10:20:30Z`, or as the number where it is beyond the calendar."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def _numbers(text: pl.Series) -> pl.Series:
    whole = text.cast(pl.Int64, strict=False)
    if whole.null_count() == text.null_count():
        return whole
    numbers = text.cast(pl.Float64, strict=False)
    return whole if numbers.null_count() == whole.null_count() else numbers


def _from_numbers(column: pl.Series, unit: TimestampUnit, place: _Place) -> Times:
    values = column.fill_nan(None) if column.dtype.is_float() else column
    if unit == "auto" and (compact := read_compact(values)) is not None:
        _check_compact(values, compact, place)
        return _finish(compact, 1, "compact dates")
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
        raise DataError(
            f"{place(row)}: {values[row]} is out of range as a time in {spelling}; correct it, or set "
            "timestamp_unit"
        )
    if unit == "ns":
        return _finish(values // 1000, 1, spelling)
    return _finish(values, _PER_UNIT[unit], spelling)


def _check_compact(values: pl.Series, dates: pl.Series, place: _Place) -> None:
    """Refuses a number that is no date in a column of compact dates.

    Raises:
        DataError: names its place.
    """
    bad = (dates.is_null() & values.is_not_null()).arg_true()
    if len(bad):
        row = int(bad[0])
        example = int(values[int(dates.is_not_null().arg_true()[0])])
        raise DataError(
            f"{place(row)}: {values[row]} is not a date, but most values of the column are, such as "
            f"{example} ({len(bad)} such value{'s' if len(bad) > 1 else ''}); correct it, or set "
            "timestamp_unit if the numbers are not dates"
        )


def _unit_of(largest: float) -> TimestampUnit:
    """Guesses the unit from the largest number.

    1e11 seconds are the year 5138, 1e11 milliseconds 1973, and no log has times in between.
    """
    if largest < 1e11:
        return "s"
    if largest < 1e14:
        return "ms"
    return "us" if largest < 1e17 else "ns"


def _finish(values: pl.Series, factor: int, spelling: str) -> Times:
    missing = values.is_null().to_numpy().copy()
    if values.dtype.is_float():
        scaled = (values * factor).round().fill_null(0).cast(pl.Int64)
    else:
        scaled = values.cast(pl.Int64).fill_null(0) * factor
    dates = int((~missing).sum()) if spelling == "dates" else 0
    return Times(scaled.to_numpy().copy(), missing, spelling, dates)
