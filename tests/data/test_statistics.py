"""Statistics of a log and its split against counts by hand; tallies of parts add up to the whole."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from seqloom.data.filters import Log
from seqloom.data.split import Split, leave_one_out
from seqloom.data.statistics import LogTally, SplitTally, describe, describe_split

DAY = 86_400 * 10**6


def log_of(users: list[int], items: list[int], times: list[int] | None, catalogue: int = 4) -> Log:
    return Log(
        np.array(users, np.int32),
        np.array(items, np.int32),
        None if times is None else np.array(times, np.int64),
        pl.Series([f"u{n}" for n in range(4)]),
        pl.Series([f"i{n}" for n in range(catalogue)]),
    )


def test_facts_of_a_log_by_hand() -> None:
    facts = describe(
        log_of([0, 0, 0, 1, 2, 2], [0, 1, 0, 2, 2, 1], [DAY, 2 * DAY, 0, DAY, DAY, DAY])
    )
    assert facts == {
        "users": 3,  # user 3 has no event
        "items": 3,  # nor has item 3
        "events": 6,
        "density": pytest.approx(6 / 9),
        "mean_length": 2.0,
        "median_length": 2.0,
        "max_length": 3,
        "first_date": "1970-01-01T00:00:00Z",
        "last_date": "1970-01-03T00:00:00Z",
    }


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_ones() -> None:
    assert describe(log_of([0, 1, 1, 1], [0, 1, 2, 0], None))["median_length"] == 2.0
    assert describe(log_of([0, 1, 1], [0, 1, 2], None))["median_length"] == 1.5


def test_a_log_without_times_or_events() -> None:
    assert "first_date" not in describe(log_of([0], [0], None))
    empty = describe(log_of([], [], []))
    assert (empty["users"], empty["events"], empty["density"], empty["max_length"]) == (
        0,
        0,
        0.0,
        0,
    )


def test_tallies_of_parts_add_up() -> None:
    draw = np.random.default_rng(3)
    users = np.sort(draw.integers(0, 4, 60))
    items, times = draw.integers(0, 4, 60), draw.integers(0, 9 * DAY, 60)
    whole = log_of(users.tolist(), items.tolist(), times.tolist())
    parts = [LogTally.of(whole.take(np.isin(users, part))) for part in ([0, 1], [2], [3])]
    assert LogTally.sum(parts).facts() == describe(whole)


ITEMS = np.array([0, 1, 2, 1, 3, 3, 2, 0], np.int32)
OFFSETS = np.array([0, 5, 6, 8])


def test_facts_of_a_split_by_hand() -> None:
    # User 0 trains on 0, 1, 2; 1 and 3 are held out. The others are too short.
    assert describe_split(ITEMS, OFFSETS, leave_one_out(OFFSETS), 4) == {
        "train_events": 6,
        "train_only_users": 2,
        "unused_events": 0,
        "valid_targets": 1,
        "valid_targets_without_history": 0,
        "valid_targets_not_in_train": 0,
        "test_targets": 1,
        "test_targets_without_history": 0,
        "test_targets_not_in_train": 0,
    }
    cold = Split(
        train_end=np.array([3, 5, 7]),
        valid=np.array([4, 5, -1]),
        test=np.array([-1, -1, 7]),
        unused=1,
    )
    facts = describe_split(ITEMS, OFFSETS, cold, 4)
    assert facts["train_events"] == 3 + 0 + 1
    assert facts["valid_targets_without_history"] == 1  # the only event of user 1
    assert facts["valid_targets_not_in_train"] == 2  # item 3 twice
    assert (facts["test_targets_not_in_train"], facts["unused_events"]) == (0, 1)


def test_tallies_of_a_split_add_up() -> None:
    split = leave_one_out(OFFSETS)
    whole = SplitTally.of(ITEMS, OFFSETS, split, 4)
    first = SplitTally.of(ITEMS[:5], OFFSETS[:2], leave_one_out(OFFSETS[:2]), 4)
    rest = SplitTally.of(ITEMS[5:], OFFSETS[1:] - 5, leave_one_out(OFFSETS[1:] - 5), 4)
    assert SplitTally.sum([first, rest]).facts() == whole.facts()
