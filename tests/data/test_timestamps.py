"""Times in every spelling."""

from __future__ import annotations

from datetime import date, datetime

import polars as pl
import pytest

from seqloom.core.errors import DataError
from seqloom.data.timestamps import iso, parse_moment, parse_times

STAMP = 1388631845  # 2014-01-02 03:04:05 UTC


def micros(values: pl.Series | list[object], unit: str = "auto") -> list[int]:
    series = values if isinstance(values, pl.Series) else pl.Series(values, strict=False)
    times = parse_times(series, unit, "log", lambda row: f"row {row + 1}")  # type: ignore[arg-type]
    return times.micros.tolist()


@pytest.mark.parametrize(
    "value",
    [
        STAMP,
        STAMP * 1000,
        STAMP * 10**6,
        STAMP * 10**9,
        float(STAMP),
        str(STAMP),
        f"{STAMP}.0",
        f" {STAMP * 1000} ",
        "2014-01-02 03:04:05",
        "2014-01-02T03:04:05",
        "2014-01-02T03:04:05Z",
        "2014-01-02T03:04:05.000Z",
        "2014-01-02T05:04:05+02:00",
        "2014-01-02 05:04:05+0200",
        datetime(2014, 1, 2, 3, 4, 5),
    ],
)
def test_one_moment_many_spellings(value: object) -> None:
    assert micros([value]) == [STAMP * 10**6]


def test_dates() -> None:
    day = 1388620800 * 10**6
    assert micros([date(2014, 1, 2)]) == [day]
    assert micros(["2014-01-02", "2014/01/02", "01 2, 2014"]) == [day] * 3


def test_fractions_of_a_second_are_kept() -> None:
    assert micros([STAMP * 1000 + 7]) == [STAMP * 10**6 + 7000]
    assert micros([STAMP + 0.25]) == [STAMP * 10**6 + 250_000]
    assert micros(["2014-01-02 03:04:05.25"]) == [STAMP * 10**6 + 250_000]


def test_one_unit_for_the_whole_column() -> None:
    assert micros([5, STAMP * 1000]) == [5000, STAMP * 10**6]
    assert micros([5], "ms") == [5000]


def test_missing_times_are_marked() -> None:
    times = parse_times(pl.Series(["1", "", None]), "s", "log", str)
    assert times.missing.tolist() == [False, True, True]
    times = parse_times(pl.Series([1.0, float("nan"), None]), "s", "log", str)
    assert times.missing.tolist() == [False, True, True]


def test_values_and_columns_that_are_no_times() -> None:
    with pytest.raises(
        DataError, match=r"log, row 2: 'soon' is not a timestamp .*; use a number or a date"
    ):
        micros(["5", "soon"])
    with pytest.raises(DataError, match="the column has type"):
        micros(pl.Series([[1]]))


def test_moments_and_back() -> None:
    assert parse_moment("2014-01-02T03:04:05Z", "valid_from") == STAMP
    assert parse_moment(STAMP, "valid_from") == STAMP
    assert iso(STAMP) == "2014-01-02T03:04:05Z"
    with pytest.raises(DataError, match="valid_from, value: 'then'"):
        parse_moment("then", "valid_from")


@pytest.mark.parametrize("value", [float("inf"), 2.0**80])
def test_numbers_beyond_the_calendar(value: float) -> None:
    with pytest.raises(DataError, match=r"row 1: .* out of range as a time in nanosec"):
        micros([value])
    with pytest.raises(DataError, match="out of range as a time in seconds"):
        micros([2**60], "s")
