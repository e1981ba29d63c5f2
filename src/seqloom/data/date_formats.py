"""Parses dates in many formats to microseconds since 1970; dates without a zone are UTC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import polars as pl

_PLAIN = (
    "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d", "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M", "%Y/%m/%d %H:%M:%S%.f", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%m %d, %Y",
)  # fmt: skip
_ZONED = (
    "%Y-%m-%dT%H:%M:%S%.f%:z", "%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%d %H:%M:%S%.f %:z",
    "%Y-%m-%dT%H:%M%:z", "%Y/%m/%d %H:%M:%S%.f%:z",
)  # fmt: skip
_WORDED = (
    "%d %B %Y %H:%M:%S %:z", "%d %B %Y %H:%M %:z", "%d %B %Y %H:%M:%S", "%d %B %Y %H:%M", "%d %B %Y",
    "%B %d %H:%M:%S %:z %Y", "%B %d %H:%M:%S %Y", "%B %d %Y %H:%M:%S", "%B %d %Y %H:%M", "%B %d %Y",
    "%B %d %Y %I:%M:%S %p", "%B %d %Y %I:%M %p",
)  # fmt: skip
"""Twitter, RFC 2822, `date`: after `_words` has removed weekdays, commas and zone names."""
_ZONES = {
    "GMT": 0, "UTC": 0, "UT": 0, "Z": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6,
    "PST": -8, "PDT": -7,
}  # fmt: skip
"""Zone names of RFC 2822, with their hours from UTC."""
_NUMBERED = r"^(\d{1,2})[/.-](\d{1,2})[/.-](\d{4}|\d{2})(?:,?[ T]+(\d.*))?$"
"""Day and month in either order, then the year and optionally the time of day."""
_CLOCKS = ("", " %H:%M", " %H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p", " %I:%M:%S%.f %p")
_COMPACT = {
    "%Y%m%d": (19000101, 21001231),
    "%Y%m%d%H%M": (190001010000, 210012312359),
    "%Y%m%d%H%M%S": (19000101000000, 21001231235959),
}


@dataclass(frozen=True)
class DayOrder:
    """The order of day and month in which dates such as 12/1/2009 were read."""

    first: Literal["day", "month"]
    undecided: str | None = None
    """Where no value decides the order (none has a number over 12): the message for the user."""


@dataclass(frozen=True)
class Dates:
    """A column of parsed dates."""

    micros: pl.Series
    """[rows] Int64, null where no format fits."""
    order: DayOrder | None = None
    clash: tuple[int, int] | None = None
    """A row with the month first and a row with the day first, where the column has both."""


def read_dates(text: pl.Series, day_first: bool | None = None) -> Dates:
    """Parses strings without nulls, each in any of the known formats."""
    numbered = text.str.contains(_NUMBERED).to_numpy()
    micros = np.zeros(len(text), np.int64)
    known = np.zeros(len(text), np.bool_)
    order, clash = None, None
    rows = np.flatnonzero(numbered)
    if len(rows):
        dates = _read_numbered(text.gather(rows), day_first)
        order = dates.order
        if dates.clash is not None:
            clash = (int(rows[dates.clash[0]]), int(rows[dates.clash[1]]))
        _put(micros, known, rows, dates.micros)
    left = np.flatnonzero(~numbered)
    untried = list(_SPELLINGS)
    while len(left) and untried:
        rest = text.gather(left)
        # Try a format that fits the first unparsed value; if none fits it, try the others in order.
        fits = (one for one in untried if one(rest.head(1))[0] is not None)
        spelling = next(fits, untried[0])
        untried.remove(spelling)
        good = _put(micros, known, left, spelling(rest))
        left = left[~good]
    return Dates(pl.Series(micros).set(pl.Series(~known), None), order, clash)


def read_format(text: pl.Series, format: str) -> pl.Series:
    """Parses strings in one `strptime` format, as microseconds; null where it does not fit."""
    try:
        # In polars `%f` is nanoseconds and `%.f` a fraction of a second.
        return _parsed(text, format.replace(".%f", "%.f"))
    except pl.exceptions.PolarsError:
        distinct = text.unique().drop_nulls()
        values = [_by_strptime(value, format) for value in distinct.to_list()]
        known = pl.DataFrame({"text": distinct, "at": pl.Series(values, dtype=pl.Int64)})
        frame = pl.DataFrame({"text": text})
        return frame.join(known, on="text", how="left", maintain_order="left")["at"]


def read_compact(values: pl.Series) -> pl.Series | None:
    """Parses numbers such as 20140723 or 20140723102030 as microseconds.

    Returns None unless most of the values are dates of one such format; the others are null then.
    """
    count = len(values) - values.null_count()
    low, high = values.min(), values.max()
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return None
    for format, (first, last) in _COMPACT.items():
        if high < first or low > last:
            continue
        candidate = values.is_between(first, last)
        if values.dtype.is_float():
            candidate &= values % 1 == 0
        if 2 * int(candidate.sum() or 0) <= count:
            continue
        whole = values.set(~candidate.fill_null(False), None).cast(pl.Int64)
        micros = _parsed(whole.cast(pl.String), format)
        if 2 * (len(micros) - micros.null_count()) > count:
            return micros
    return None


def _put(micros: np.ndarray, known: np.ndarray, rows: np.ndarray, parsed: pl.Series) -> np.ndarray:
    """Stores the parsed values of `rows` and returns [rows] bool, which rows were parsed."""
    good = parsed.is_not_null().to_numpy()
    micros[rows[good]] = parsed.drop_nulls().to_numpy()
    known[rows[good]] = True
    return good


def _read_numbered(text: pl.Series, day_first: bool | None) -> Dates:
    """Parses dates such as 12/1/2009: a first number over 12 in any row means that the day comes first."""
    parts = text.str.extract_groups(_NUMBERED).struct.unnest()
    one, two, year, clock = (parts[name] for name in parts.columns)
    firsts = (one.cast(pl.Int32) > 12).arg_true()
    seconds = (two.cast(pl.Int32) > 12).arg_true()
    clash = (int(seconds[0]), int(firsts[0])) if len(firsts) and len(seconds) else None
    by_day = bool(len(firsts)) if len(firsts) or len(seconds) else bool(day_first)
    day, month = (one, two) if by_day else (two, one)
    clean = clock.fill_null("").str.strip_chars().str.to_uppercase()
    clean = clean.str.replace(r"\s*([AP])\.?M\.?$", " ${1}M")
    dates = (
        pl.select(pl.concat_str(month, pl.lit("/"), day, pl.lit("/"), year, pl.lit(" "), clean))
        .to_series()
        .str.strip_chars()
    )
    micros = pl.Series([None], dtype=pl.Int64).new_from_index(0, len(text))
    for mark in ("%Y", "%y"):
        mine = year.str.len_chars() == (4 if mark == "%Y" else 2)
        for spelling in _CLOCKS:
            left = (micros.is_null() & mine).arg_true()
            if len(left):
                micros = micros.scatter(
                    left, _parsed(dates.gather(left), f"%m/%d/{mark}{spelling}")
                )
    undecided = None
    if not len(firsts) and not len(seconds) and day_first is None:
        undecided = (
            f"{text[0]!r} may have the day or the month first, and no value of the column decides it (none "
            "has a number over 12): set time_format, such as '%d/%m/%Y' or '%m/%d/%Y', with ' %H:%M:%S' "
            "for a time of day"
        )
    return Dates(micros, DayOrder("day" if by_day else "month", undecided), clash)


def _parsed(text: pl.Series, format: str) -> pl.Series:
    return text.str.to_datetime(format, strict=False, time_unit="us").to_physical()


def _by_strptime(value: str, format: str) -> int | None:
    try:
        moment = datetime.strptime(value, format)
    except ValueError:
        return None
    zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (zoned - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _zoned(text: pl.Series) -> pl.Series:
    """Writes zones as +00:00."""
    text = text.str.replace(r"(?i)\s*(Z|UTC|GMT)$", "+00:00")
    return text.str.replace(r"([+-]\d\d):?(\d\d)$", "$1:$2").str.replace(r"([+-]\d\d)$", "$1:00")


def _words(text: pl.Series) -> pl.Series:
    """Removes weekdays, commas and comments; writes zones as +00:00 after a blank."""
    text = text.str.replace(r"\s*\([^)]*\)$", "").str.replace_all(",", " ")
    text = text.str.replace(r"(?i)^(mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?\s+", "")
    text = text.str.replace(r"^(\d{1,2})-([A-Za-z]{3,9})-(\d{4})", "$1 $2 $3")
    text = text.str.replace(r"\s([+-]\d\d):?(\d\d)\b", " $1:$2")
    for name, hours in _ZONES.items():
        text = text.str.replace(rf"\s{name}\b", f" {hours:+03d}:00")
    return text.str.replace_all(r"\s+", " ").str.replace(r"(?i)(\d)\s?([ap]m)$", "$1 $2")


def _spelling(prepare: Callable[[pl.Series], pl.Series], format: str) -> Spelling:
    return lambda text: _parsed(prepare(text), format)


Spelling = Callable[[pl.Series], pl.Series]
_SPELLINGS: tuple[Spelling, ...] = (
    *(_spelling(lambda text: text, format) for format in _PLAIN),
    *(_spelling(_zoned, format) for format in _ZONED),
    *(_spelling(_words, format) for format in _WORDED),
)
