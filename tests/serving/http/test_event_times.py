"""Times of posted events: units, dates, and what is refused."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from seqloom.data.timestamps import SECOND, iso, parse_times
from seqloom.serving.http.event_times import _parse_common, event_times
from seqloom.serving.http.problems import ProblemError
from seqloom.serving.http.requests import EventIn

AT = 1_700_000_000


def event(value: Any) -> EventIn:
    return EventIn(user_id="u", item_id="i", timestamp=value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (AT, AT),
        (AT * 1000, AT),
        (AT * 10**6 + 7, AT),
        (AT * 10**9, AT),
        (AT + 0.75, AT),
        (AT * 1000 + 0.5, AT),
        (str(AT), AT),
        (f" {AT * 1000} ", AT),
        ("2023-11-14T22:13:20Z", AT),
        ("2023-11-14T22:13:20.999Z", AT),
        ("2023-11-14 22:13:20", AT),
        ("2023-11-15T00:13:20+02:00", AT),
        ("2023-11-15T00:13:20+0200", AT),
        ("2023-11-14", AT - AT % 86400),
        (0, 0),
        (5, 5),
        (-86400, -86400),
        ("1969-12-31T23:59:59.5Z", -1),
        (-864_000_000_000_000, -864_000_000),
    ],
)
def test_units_and_dates_are_read_as_prepare_reads_them(value: float | str, seconds: int) -> None:
    assert event_times([event(value)]) == [seconds]


def test_a_post_may_mix_them() -> None:
    now = int(time.time())
    actual = event_times([event(value) for value in (AT, AT * 1000, "2023-11-14T22:13:20Z", None)])
    assert actual[:3] == [AT] * 3
    assert now <= actual[3] <= now + 5


def test_the_quick_way_gives_what_parse_times_gives() -> None:
    draw = random.Random(0)
    values: list[int | str] = []
    for _ in range(60):
        at = draw.randrange(-(10**9), 3 * 10**9)
        text = iso(at)
        zone = draw.choice(["Z", "", "+05:30", "-11:00"])
        values += [
            at,
            at * 1000 + 7,
            text,
            text[:10],
            text[:16],
            text[:-1] + draw.choice([".5", ".25"]) + zone,
        ]
    quick = 0
    for value in values:
        actual = _parse_common(value)
        if actual is not None:
            quick += 1
            times = parse_times(pl.Series([value]), "auto", "x", str)
            assert actual == int(times.micros[0]) // SECOND, value
    assert quick > len(values) / 2


@pytest.mark.parametrize(
    "value",
    [
        "yesterday", "", "  ", "2023-13-01", "nan", "1e400", float("nan"), float("inf"), 1e300, 2**62,
        -(2**62), 10**40, "9" * 30,
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(value: float | str) -> None:
    with pytest.raises(ProblemError) as refused:
        event_times([event(AT), event(value)])
    assert refused.value.status == 422
    assert refused.value.errors[0].pointer == "body/events/1/timestamp"
    assert "milliseconds" in refused.value.detail
    assert "2014-07-23T10:20:30Z" in refused.value.detail


@pytest.mark.parametrize("days", [1.1, 400, 20_000])
@pytest.mark.parametrize("spelling", [int, lambda at: at * 1000, lambda at: at * 10**6, iso])
def test_the_future_is_refused(days: float, spelling: Callable[..., Any]) -> None:
    at = int(time.time() + days * 86400)
    with pytest.raises(ProblemError, match="in the future; at most a day after") as refused:
        event_times([event(spelling(at))])
    assert refused.value.status == 422


def test_a_clock_may_be_ahead_by_hours() -> None:
    at = int(time.time()) + 20 * 3600
    assert event_times([event(at)]) == [at]
