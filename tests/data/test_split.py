"""The two splits against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.core.errors import DataError
from seqloom.data.split import leave_one_out, temporal_bounds, temporal_split

SECOND = 1_000_000


def test_leave_one_out() -> None:
    split = leave_one_out(np.array([0, 2, 5, 9, 9]))
    assert split.train_end.tolist() == [2, 3, 7, 9]
    assert split.valid.tolist() == [-1, 3, 7, -1]
    assert split.test.tolist() == [-1, 4, 8, -1]


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=8), min_size=1, max_size=8),
    st.integers(0, 42),
    st.integers(0, 20),
)
def test_temporal_equals_the_definition(histories: list[list[int]], begin: int, span: int) -> None:
    histories = [sorted(times) for times in histories]
    offsets = np.cumsum([0, *map(len, histories)])
    times = np.array([t * SECOND + 7 for h in histories for t in h])
    users = np.repeat(np.arange(len(histories)), [len(h) for h in histories])
    end = begin + span
    if not any(t < begin for h in histories for t in h):
        with pytest.raises(DataError, match="no event is before"):
            temporal_split(times, users, offsets, begin, end)
        return
    split = temporal_split(times, users, offsets, begin, end)
    unused = 0
    for user, history in enumerate(histories):
        train = [t for t in history if t < begin]
        valid = [t for t in history if begin <= t < end]
        test = [t for t in history if t >= end]
        start = int(offsets[user])
        assert split.train_end[user] == start + len(train)
        assert split.valid[user] == (start + len(train) if valid else -1)
        assert split.test[user] == (start + len(train) + len(valid) if test else -1)
        unused += max(len(test) - 1, 0) if test else max(len(valid) - 1, 0)
    assert split.unused == unused


def test_bounds_leave_the_shares_that_were_requested() -> None:
    times = np.random.default_rng(0).permutation(1000) * SECOND
    assert temporal_bounds(times, 0.1, 0.2) == (700, 800)


def test_exchanged_bounds_are_an_error() -> None:
    with pytest.raises(DataError, match="swap them"):
        temporal_split(np.array([1]), np.array([0]), np.array([0, 1]), 10, 5)
