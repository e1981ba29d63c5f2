"""Ties against naive loops, and their shuffle: reproducible, and independent of the order of the file."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.data.filters import Log, shuffle_log, time_order
from seqloom.data.tie_keys import tie_keys
from seqloom.data.ties import joined_events, tied_events

Triples = list[tuple[int, int, int]]
LOGS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 3)), max_size=60)


def sorted_log(events: Triples, timed: bool = True) -> Log:
    columns = np.array(events, np.int64).reshape(-1, 3)
    log = Log(
        columns[:, 0].astype(np.int32),
        columns[:, 1].astype(np.int32),
        columns[:, 2] if timed else None,
        pl.Series([f"u{i}" for i in range(5)]),
        pl.Series([f"i{i}" for i in range(7)]),
    )
    return log.take(time_order(log))


def rows_of(log: Log) -> list[tuple[str, str, int]]:
    assert log.times is not None
    users, items = log.user_ids.to_list(), log.item_ids.to_list()
    numbers = zip(log.users.tolist(), log.items.tolist(), log.times.tolist(), strict=True)
    return [(users[user], items[item], time) for user, item, time in numbers]


def shuffled(log: Log, seed: int) -> list[tuple[str, str, int]]:
    return rows_of(shuffle_log(log, tie_keys(log.item_ids.to_list()).numpy(), seed))


@settings(deadline=None)
@given(LOGS)
def test_tied_events_equal_the_naive_loop(events: Triples) -> None:
    log = sorted_log(events)
    assert log.times is not None
    rows = list(zip(log.users.tolist(), log.items.tolist(), log.times.tolist(), strict=True))
    expected = [
        any(user == u and time == t and item != i for u, i, t in rows) for user, item, time in rows
    ]
    assert tied_events(joined_events(log.users, log.times), log.items).tolist() == expected
    log = sorted_log(events, timed=False)
    assert not tied_events(joined_events(log.users, log.times), log.items).any()


@settings(deadline=None)
@given(LOGS, st.randoms(use_true_random=False))
def test_a_shuffle_depends_on_ids_and_seed_alone(events: Triples, random: object) -> None:
    mixed = list(events)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    log = sorted_log(events)
    first = shuffled(log, 1)
    assert shuffled(sorted_log(mixed), 1) == first
    assert sorted(first) == sorted(rows_of(log))
    assert [(user, time) for user, _, time in first] == [(u, t) for u, _, t in rows_of(log)]


def test_other_numbers_of_users_and_items_do_not_change_a_shuffle() -> None:
    users, items = ["a", "b"], ["x", "y", "z", "w"]
    rows = [(u, i, 5) for u in users for i in items]

    def log_of(user_ids: list[str], item_ids: list[str]) -> Log:
        numbers = [(user_ids.index(u), item_ids.index(i), t) for u, i, t in rows]
        columns = np.array(sorted(numbers), np.int64)
        return Log(
            columns[:, 0].astype(np.int32),
            columns[:, 1].astype(np.int32),
            columns[:, 2],
            pl.Series(user_ids),
            pl.Series(item_ids),
        )

    one = shuffled(log_of(users, items), 3)
    assert sorted(one) == sorted(rows)
    other = shuffled(log_of(users[::-1], items[::-1]), 3)
    for user in users:
        assert [r for r in one if r[0] == user] == [r for r in other if r[0] == user]


def test_seeds_and_users_give_different_orders_all_equally_often() -> None:
    items = [f"i{n}" for n in range(3)]
    users = [f"u{n}" for n in range(3000)]
    log = Log(
        np.repeat(np.arange(3000, dtype=np.int32), 3),
        np.tile(np.arange(3, dtype=np.int32), 3000),
        np.zeros(9000, np.int64),
        pl.Series(users),
        pl.Series(items),
    )
    keys = tie_keys(items).numpy()
    first, second = (shuffle_log(log, keys, seed).items.reshape(-1, 3) for seed in (0, 1))
    assert not np.array_equal(first, second)
    for made in (first, second):
        counts = np.unique(made, axis=0, return_counts=True)[1]
        assert len(counts) == 6
        assert abs(counts - 500).max() < 5 * np.sqrt(500)
