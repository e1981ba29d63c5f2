"""From a log as it was read to coded events in time order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from seqloom.core.errors import DataError
from seqloom.data.checks import Findings, Missing, check_ids, check_times, present_rows
from seqloom.data.codes import Coded, encode
from seqloom.data.filters import Log, time_order
from seqloom.data.sources.base import Source, TimestampUnit
from seqloom.data.times import Times, parse_times


@dataclass(frozen=True)
class CodedLog:
    """A log as numbers, rows in file order."""

    log: Log
    ratings: np.ndarray | None
    """[events] float64, NaN where a row has none; None where the log has no rating column."""
    spelling: str | None
    """What the times were read as (see `Times.spelling`); None where there are none."""


def code_log(source: Source, unit: TimestampUnit, missing: Missing, findings: Findings) -> CodedLog:
    """Number the ids, read the times, deal with missing values. Rows stay in file order.

    The columns are taken out of `source`.

    Raises:
        DataError: a missing id or time (unless they are dropped), a value that is no time or no
            rating, an empty log.
    """
    users = _code(source, "user", findings)
    items = _code(source, "item", findings)
    times = _times(source, unit)
    ratings = _ratings(source)
    keep: np.ndarray | None = None
    absent = {"user": users.codes < 0, "item": items.codes < 0}
    if times is not None:
        absent["timestamp"] = times.missing
    for role, rows in absent.items():
        present = present_rows(role, rows, missing, source.name, source.locate, findings)
        if present is not None:
            keep = present if keep is None else keep & present
    log = Log(
        users.codes,
        items.codes,
        None if times is None else times.micros,
        users.labels,
        items.labels,
    )
    if keep is not None:
        log = log.take(keep)
        ratings = None if ratings is None else ratings[keep]
    if len(log) == 0:
        raise DataError(f"{source.name} is empty: no row with a user and an item")
    if times is not None:
        assert log.times is not None
        check_times(log.times, times.spelling, findings)
    return CodedLog(log, ratings, None if times is None else times.spelling)


def in_time_order(log: Log, name: str, findings: Findings, *, ordered_format: bool) -> Log:
    """Sort user by user and by time, ties in file order; say so where there are no times."""
    if log.times is None and not ordered_format:
        findings.add(
            "no-timestamps",
            1,
            f"{name} has no time column: each user's events are taken in the order of the file",
        )
    return log.take(time_order(log))


def _where(source: Source, role: str) -> str:
    if source.names is None:
        return source.name
    return f"{source.name}, column {source.names.by_role()[role]!r}"


def _code(source: Source, role: str, findings: Findings) -> Coded:
    coded = encode(source.columns.pop(f"{role}_id"), _where(source, f"{role}_id"))
    pa.default_memory_pool().release_unused()  # what the reader's column took
    check_ids(role, coded.labels, findings)
    return coded


def _times(source: Source, unit: TimestampUnit) -> Times | None:
    column = source.columns.pop("timestamp", None)
    if column is None:
        return None
    assert isinstance(column, pl.Series)
    return parse_times(column, unit, _where(source, "timestamp"), source.locate)


def _ratings(source: Source) -> np.ndarray | None:
    column = source.columns.pop("rating", None)
    if column is None:
        return None
    assert isinstance(column, pl.Series)
    if column.dtype == pl.String:
        column = column.str.strip_chars()
        column = column.set(column == "", None)
    numbers = column.cast(pl.Float64, strict=False)
    bad = (numbers.is_null() & column.is_not_null()).arg_true()
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"{_where(source, 'rating')}, {source.locate(row)}: {column[row]!r} is no rating; a "
            "number is needed (rating_column names another column)"
        )
    return numbers.fill_null(float("nan")).to_numpy()
