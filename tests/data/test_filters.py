"""Filters against slow loops written from their definitions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.data.filters import (
    Log,
    counting_order,
    deduplication_mask,
    k_core,
    time_order,
)

Triples = list[tuple[int, int, int]]
LOGS = st.lists(
    st.tuples(
        st.integers(0, 7), st.integers(0, 6), st.integers(-(2**40), 2**40) | st.integers(0, 3)
    ),
    max_size=60,
)


def log_of(events: Triples, timed: bool = True) -> Log:
    columns = np.array(events, np.int64).reshape(-1, 3)
    return Log(
        columns[:, 0].astype(np.int32),
        columns[:, 1].astype(np.int32),
        columns[:, 2] if timed else None,
        pl.Series([f"u{i}" for i in range(8)]),
        pl.Series([f"i{i}" for i in range(7)]),
    )


def naive_core(events: Triples, min_user: int, min_item: int) -> Triples:
    while True:
        users = Counter(user for user, _, _ in events)
        items = Counter(item for _, item, _ in events)
        kept = [e for e in events if users[e[0]] >= min_user and items[e[1]] >= min_item]
        if len(kept) == len(events):
            return kept
        events = kept


@settings(deadline=None)
@given(LOGS, st.integers(0, 5), st.integers(0, 5))
def test_k_core_equals_the_naive_loop(events: Triples, min_user: int, min_item: int) -> None:
    kept = k_core(log_of(events), min_user, min_item)
    got = [event for event, keep in zip(events, kept, strict=True) if keep]
    assert got == naive_core(events, min_user, min_item)


@settings(deadline=None)
@given(LOGS)
def test_time_order_is_stable(events: Triples) -> None:
    expected = sorted(range(len(events)), key=lambda row: (events[row][0], events[row][2]))
    assert time_order(log_of(events)).tolist() == expected


@settings(deadline=None)
@given(LOGS)
def test_without_times_the_file_order_stays(events: Triples) -> None:
    expected = sorted(range(len(events)), key=lambda row: events[row][0])
    assert time_order(log_of(events, timed=False)).tolist() == expected


def test_time_order_sees_fractions_of_a_second_and_long_ranges() -> None:
    times = [2**45 + 5, 2**45 + 4, 0, 2**50]
    order = time_order(log_of([(0, 0, t) for t in times]))
    assert order.tolist() == [2, 1, 0, 3]
    whole = [5_000_000, 4_000_000, 3_000_000]
    assert time_order(log_of([(0, 0, t) for t in whole])).tolist() == [2, 1, 0]


@pytest.mark.parametrize("swapped", [None, 0, 100, 255])
def test_one_user_out_of_order_is_found_among_many(swapped: int | None) -> None:
    users = np.arange(256, dtype=np.int32).repeat(2)
    times = np.tile(np.array([1, 2]), 256)
    if swapped is not None:
        times[2 * swapped] = 9
    ids = pl.Series([str(number) for number in range(256)])
    order = time_order(Log(users, users, times, ids, ids))
    assert order.tolist() == np.lexsort((times, users)).tolist()


def test_counting_order_of_nothing() -> None:
    assert counting_order(np.empty(0, np.int32)).tolist() == []


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("keep-all", [0, 1, 2, 3, 4, 5]),
        ("first", [0, 2, 5]),
        ("last", [3, 4, 5]),
        ("consecutive", [0, 2, 3, 4, 5]),
    ],
)
def test_duplicate_policies(policy: str, expected: list[int]) -> None:
    log = log_of([(0, 1, 1), (0, 1, 2), (0, 2, 3), (0, 1, 4), (0, 2, 5), (1, 2, 0)])
    assert np.flatnonzero(deduplication_mask(log, policy)).tolist() == expected  # type: ignore[arg-type]


def test_compact_renumbers_in_order_and_drops_unused_ids() -> None:
    log = log_of([(5, 6, 0), (2, 6, 0), (5, 3, 0)]).compact()
    assert log.users.tolist() == [1, 0, 1]
    assert log.items.tolist() == [1, 1, 0]
    assert log.user_ids.to_list() == ["u2", "u5"]
    assert log.item_ids.to_list() == ["i3", "i6"]
