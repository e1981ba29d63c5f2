"""From a log as it was read to coded events in time order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa

from seqloom.core.errors import DataError
from seqloom.data.checks import Findings, Missing, check_ids, check_times, present_rows
from seqloom.data.codes import Coded, count_decimals, encode, have_decimals, merge_decimals
from seqloom.data.date_formats import DayOrder
from seqloom.data.filters import Log, time_order
from seqloom.data.sources.base import Source, TimestampUnit
from seqloom.data.timestamps import Times, parse_times


@dataclass(frozen=True)
class CodedLog:
    """A log as numbers, rows in file order."""

    log: Log
    ratings: np.ndarray | None
    """[events] float64, NaN where a row has none; None where the log has no rating column."""
    times: Times | None
    """The times as they were read; None where there are none."""


def code_log(
    source: Source,
    unit: TimestampUnit,
    missing: Missing,
    findings: Findings,
    *,
    time_format: str | None = None,
    day_first: bool | None = None,
    whole: bool = True,
) -> CodedLog:
    """Number the ids, read the times, deal with missing values. Rows stay in file order.

    The columns are taken out of `source`. With `whole` false it is a part of a log: what all parts
    decide together (`settle_ids`, the order of day and month, the count of mixed times) is left open.

    Raises:
        DataError: a missing id or time (unless they are dropped), a value that is no time or no
            rating, an empty log.
    """
    users = _code(source, "user", findings)
    items = _code(source, "item", findings)
    times = _times(source, unit, time_format, day_first)
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
        check_times(log.times, times.spelling, times.mixed if whole else 0, findings)
    if whole:
        log = settle_ids(log, findings)
        if times is not None:
            check_day_order(times.order, _where(source, "timestamp"))
    return CodedLog(log, ratings, times)


def settle_ids(log: Log, findings: Findings) -> Log:
    """Read 103.0 as 103 where all ids of a column are integers."""
    if have_decimals(log.user_ids):
        report_decimals("user", count_decimals(log.user_ids), findings)
        users, user_ids = merge_decimals(log.users, log.user_ids)
        log = replace(log, users=users, user_ids=user_ids)
    if have_decimals(log.item_ids):
        report_decimals("item", count_decimals(log.item_ids), findings)
        items, item_ids = merge_decimals(log.items, log.item_ids)
        log = replace(log, items=items, item_ids=item_ids)
    return log


def report_decimals(role: str, count: int, findings: Findings) -> None:
    """Record ids that are written as 103.0 and read as 103."""
    findings.add(
        f"decimals-in-{role}-id",
        count,
        f"{role} ids are whole numbers with decimals (103.0); they are read as 103, as all ids are integers",
    )


def check_day_order(order: DayOrder | None, where: str) -> None:
    """Refuse dates in which day and month cannot be told apart.

    Raises:
        DataError: no value decides.
    """
    if order is not None and order.undecided is not None:
        raise DataError(f"{where}: {order.undecided}")


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


def _times(
    source: Source, unit: TimestampUnit, time_format: str | None, day_first: bool | None
) -> Times | None:
    column = source.columns.pop("timestamp", None)
    if column is None:
        return None
    assert isinstance(column, pl.Series)
    return parse_times(
        column,
        unit,
        _where(source, "timestamp"),
        source.locate,
        format=time_format,
        day_first=day_first,
    )


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
