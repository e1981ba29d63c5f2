"""Dates in many spellings, with day and month in either order, compact or beside numbers."""

from __future__ import annotations

import calendar
from datetime import datetime
from typing import Any

import polars as pl
import pytest

from seqloom.core.errors import DataError
from seqloom.data.checks import Findings, check_times
from seqloom.data.timestamps import Times, parse_moment, parse_times


def times_of(*values: object, unit: str = "auto", **options: Any) -> Times:
    series = pl.Series(list(values), strict=False)
    return parse_times(series, unit, "log", lambda row: f"row {row + 1}", **options)  # type: ignore[arg-type]


def seconds(*values: object, **options: Any) -> list[int]:
    return (times_of(*values, **options).micros // 10**6).tolist()


def utc(*fields: int) -> int:
    return calendar.timegm(datetime(*fields).timetuple())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Fri Aug 25 13:55:02 -0700 2017", utc(2017, 8, 25, 20, 55, 2)),
        ("Fri Aug 25 13:55:02 PDT 2017", utc(2017, 8, 25, 20, 55, 2)),
        ("Fri Aug 25 13:55:02 2017", utc(2017, 8, 25, 13, 55, 2)),
        ("Fri, 25 Aug 2017 13:55:02 +0200", utc(2017, 8, 25, 11, 55, 2)),
        ("Fri, 25 Aug 2017 13:55:02 +0200 (CEST)", utc(2017, 8, 25, 11, 55, 2)),
        ("5 Aug 2017 13:55 GMT", utc(2017, 8, 5, 13, 55)),
        ("August 5, 2017 10:30 PM", utc(2017, 8, 5, 22, 30)),
        ("25-Aug-2017", utc(2017, 8, 25)),
        ("2014-07-23T10:20:30-0700", utc(2014, 7, 23, 17, 20, 30)),
        ("20140723102030", utc(2014, 7, 23, 10, 20, 30)),
        (20140723102030, utc(2014, 7, 23, 10, 20, 30)),
        ("201407231020", utc(2014, 7, 23, 10, 20)),
        (20140723, utc(2014, 7, 23)),
        (20140723.0, utc(2014, 7, 23)),
    ],
)
def test_spellings(value: object, expected: int) -> None:
    assert seconds(value) == [expected]
    assert seconds(None, value)[1] == expected


def test_one_column_may_hold_several_spellings() -> None:
    values = ("2017-08-25", "25 Aug 2017", "Aug 25, 2017", "2017/08/25", "08 25, 2017")
    assert seconds(*values) == [utc(2017, 8, 25)] * 5


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("12/1/2009 7:45", "12/13/2009 17:45"), (2009, 12, 1, 7, 45)),
        (("12/1/2009 7:45", "13/12/2009 17:45"), (2009, 1, 12, 7, 45)),
        (("11/9/2019 9:05:10 PM", "11/13/2019 9:05:10 AM"), (2019, 11, 9, 21, 5, 10)),
        (("11/9/2019 12:05:10 am", "11/13/2019"), (2019, 11, 9, 0, 5, 10)),
        (("1.2.2014", "23.7.2014 10:20"), (2014, 2, 1)),
        (("9/11/01", "9/13/01"), (2001, 9, 11)),
    ],
)
def test_the_column_decides_between_day_and_month(
    values: tuple[str, ...], expected: tuple[int, ...]
) -> None:
    assert seconds(*values)[0] == utc(*expected)


def test_day_and_month_that_cannot_be_distinguished() -> None:
    times = times_of("1/2/2014", "3/4/2014")
    assert times.order is not None
    assert times.order.undecided is not None
    assert "set time_format, such as '%d/%m/%Y'" in times.order.undecided
    assert seconds("1/2/2014", day_first=True) == [utc(2014, 2, 1)]
    assert seconds("1/2/2014", format="%d/%m/%Y") == [utc(2014, 2, 1)]
    assert seconds("1/2/2014 7:05", format="%m/%d/%Y %H:%M") == [utc(2014, 1, 2, 7, 5)]
    with pytest.raises(
        DataError, match=r"row 1: '12/13/2009' has the month .* '13/12/2009' \(row 2"
    ):
        times_of("12/13/2009", "13/12/2009")
    with pytest.raises(DataError, match="valid_from: '1/2/2014' may have the day or the month"):
        parse_moment("1/2/2014", "valid_from")


def test_formats_that_are_named() -> None:
    assert seconds("2014072310", format="%Y%m%d%H") == [utc(2014, 7, 23, 10)]
    assert seconds(2014072310, format="%Y%m%d%H") == [utc(2014, 7, 23, 10)]
    times = times_of("2014-07-23 10:20:30.25", format="%Y-%m-%d %H:%M:%S.%f")
    assert times.micros.tolist() == [utc(2014, 7, 23, 10, 20, 30) * 10**6 + 250_000]
    with pytest.raises(DataError, match=r"row 2: 'x' does not fit time_format='%Y-%m-%d' \(1 such"):
        times_of("2014-07-23", "x", None, format="%Y-%m-%d")


def test_numbers_and_dates_in_one_column() -> None:
    times = times_of("1690000000", "2023-07-22T10:15:00", "", "1690000300")
    assert (times.micros // 10**6).tolist()[:2] == [1690000000, utc(2023, 7, 22, 10, 15)]
    assert times.missing.tolist() == [False, False, True, False]
    assert (times.mixed, times.spelling) == (1, "seconds")
    with pytest.raises(DataError, match=r"row 2: 'soon' is not a timestamp.*\(2 such values\)"):
        times_of("1690000000", "soon", "2023-07-22", "later")


def test_numbers_that_only_begin_as_compact_dates_are_seconds() -> None:
    assert seconds(20140723, 20149999) == [20140723, 20149999]
    assert seconds(20140723, unit="s") == [20140723]


def test_an_impossible_date_among_compact_dates_is_an_error() -> None:
    message = r"log, row 2: 20140732 is not a date, but .* such as 20140723 \(1 such value\)"
    with pytest.raises(DataError, match=message):
        times_of(20140723, 20140732, 20140801)
    with pytest.raises(DataError, match=message):
        times_of("20140723", "20140732", "20140801")
    with pytest.raises(DataError, match=r"row 3: 0 is not a date"):
        times_of(20140723102030, None, 0, 20140801102030)
    assert seconds(20140723, 20140732, 20140801, unit="s")[1] == 20140732


def test_odd_times_are_counted() -> None:
    actual = Findings()
    now = utc(2020, 1, 1)
    values = [-5, 10, utc(2019, 1, 1), now + 3600, utc(2030, 1, 1), utc(2031, 1, 1)]
    check_times(times_of(*values).micros, "seconds", 3, actual, now)
    counts = {record["kind"]: record["count"] for record in actual.records}
    assert counts == {
        "mixed-times": 3,
        "time-before-1970": 1,
        "time-before-1973": 1,
        "time-in-future": 2,
    }
    actual = Findings()
    check_times(times_of("1969-01-01", "1971-01-01").micros, "dates", 0, actual, now)
    assert [(r["kind"], r["examples"]) for r in actual.records] == [
        ("time-before-1970", ["1969-01-01T00:00:00Z"])
    ]
