"""Codes the columns of a log as numbers and sorts its events by time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa

from seqloom.core.errors import DataError
from seqloom.data.checks import (
    Findings,
    check_ids,
    check_times,
    present_rows,
    report_no_times,
)
from seqloom.data.codes import Coded, count_decimals, encode, have_decimals, merge_decimals
from seqloom.data.date_formats import DayOrder
from seqloom.data.filters import Log, time_order
from seqloom.data.options import Missing, TimestampUnit
from seqloom.data.sources.base import Source
from seqloom.data.timestamps import Times, parse_times


@dataclass(frozen=True)
class CodedLog:
    """A log with ids coded as numbers, rows in file order."""

    log: Log
    ratings: np.ndarray | None
    """[events] float64, NaN where a row has none; None where the log has no rating column."""
    times: Times | None
    """The parsed times; None where the log has no time column."""


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
    """Codes the ids, parses the times and handles missing values. Rows stay in file order.

    Removes the columns from `source` as it goes, to save memory. With `whole` false, `source` is one
    file of a larger log, and the decisions that need all files are left to the caller: `settle_ids`,
    the order of day and month, the count of mixed times.

    Raises:
        DataError: an id or a time is missing (unless such rows are dropped), a value is not a time or
            not a rating, or the log is empty.
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
        raise DataError(f"{source.name} is empty: no row has both a user and an item")
    if times is not None:
        assert log.times is not None
        check_times(log.times, times.spelling, times.mixed if whole else 0, findings)
    if whole:
        log = settle_ids(log, findings)
        if times is not None:
            check_day_order(times.order, _where(source, "timestamp"))
    return CodedLog(log, ratings, times)


def settle_ids(log: Log, findings: Findings) -> Log:
    """Merges ids such as 103.0 with 103 where all ids of a column are integers."""
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
    """Adds the warning that ids written as 103.0 are read as 103."""
    findings.add(
        f"decimals-in-{role}-id",
        count,
        f"{role} ids are written with decimals (103.0); they are read as 103, because all {role} ids are "
        "integers",
    )


def check_day_order(order: DayOrder | None, where: str) -> None:
    """Refuses dates whose order of day and month is ambiguous.

    Raises:
        DataError: no value of the column decides it.
    """
    if order is not None and order.undecided is not None:
        raise DataError(f"{where}: {order.undecided}")


def in_time_order(log: Log, name: str, findings: Findings, *, ordered_format: bool) -> Log:
    """Sorts events by user, then by time, ties in file order; warns where the log has no times.

    `ordered_format` is true for formats whose order is the order of time, which need no warning.
    """
    if log.times is None and not ordered_format:
        report_no_times(name, findings)
    return log.take(time_order(log))


def _where(source: Source, role: str) -> str:
    if source.names is None:
        return source.name
    return f"{source.name}, column {source.names.by_role()[role]!r}"


def _code(source: Source, role: str, findings: Findings) -> Coded:
    coded = encode(source.columns.pop(f"{role}_id"), _where(source, f"{role}_id"))
    pa.default_memory_pool().release_unused()  # frees the reader's column
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
            f"{_where(source, 'rating')}, {source.locate(row)}: {column[row]!r} is not a rating; use a "
            "number, or name another column with rating_column"
        )
    return numbers.fill_null(float("nan")).to_numpy()
