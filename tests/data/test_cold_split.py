"""Cold items and users against their definitions."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.core.errors import DataError
from seqloom.data.cold_split import choose_cold, cold_users, hold_out_items
from seqloom.data.filters import Log
from seqloom.data.split import leave_one_out
from seqloom.pipelines.prepare.split_options import user_offsets


def log_of(histories: list[list[int]], num_items: int) -> Log:
    users = np.repeat(np.arange(len(histories)), [len(h) for h in histories]).astype(np.int32)
    items = np.array([i for h in histories for i in h], dtype=np.int32)
    ids = (
        pl.Series([f"{kind}{n}" for n in range(size)])
        for kind, size in (("u", len(histories)), ("i", num_items))
    )
    return Log(users, items, None, *ids)


def by_user(log: Log) -> dict[str, list[str]]:
    offsets = user_offsets(log)
    names = log.item_ids[log.items].to_list()
    return {user: names[offsets[u] : offsets[u + 1]] for u, user in enumerate(log.user_ids)}


def test_the_choice_depends_on_ids_and_seed_alone() -> None:
    ids = pl.Series([f"i{n}" for n in range(30)])
    chosen = set(ids.filter(pl.Series(choose_cold(ids, 6, 1, "items"))))
    other_way = ids.reverse()
    assert len(chosen) == 6
    assert set(other_way.filter(pl.Series(choose_cold(other_way, 6, 1, "items")))) == chosen
    assert set(ids.filter(pl.Series(choose_cold(ids, 6, 2, "items")))) != chosen
    for number in (0, 30):
        with pytest.raises(DataError, match="items would be cold"):
            choose_cold(ids, number, 1, "items")


def test_cold_items_by_hand() -> None:
    # Item 4 is cold. u0 keeps it as the target; of u1 it goes from the history; u2 is too short for a
    # target once it is gone, and keeps one training event; u3 has nothing else and goes.
    histories = [[0, 1, 2, 4], [4, 0, 4, 1, 2], [3, 4], [4, 4, 4]]
    cold = np.array([False, False, False, False, True])
    held = hold_out_items(log_of(histories, 5), cold, lambda log: leave_one_out(user_offsets(log)))
    assert by_user(held.log) == {
        "u0": ["i0", "i1", "i2", "i4"],
        "u1": ["i0", "i1", "i2"],
        "u2": ["i3"],
    }
    assert (held.num_cold, held.removed) == (1, 6)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=1, max_size=8),
    st.lists(st.booleans(), min_size=10, max_size=10),
)
def test_what_is_left_of_any_log(histories: list[list[int]], flags: list[bool]) -> None:
    log, cold = log_of(histories, 10), np.array(flags)
    held = hold_out_items(log, cold, lambda part: leave_one_out(user_offsets(part)))
    names = {f"i{n}" for n in range(10) if flags[n]}
    assert set(held.log.item_ids[10 - held.num_cold :]) == names
    split = leave_one_out(user_offsets(held.log))
    targets = set(split.test[split.test >= 0].tolist())
    for place, item in enumerate(held.log.items):
        assert held.log.item_ids[int(item)] not in names or place in targets
    # Nothing but events of cold items went, and the warm ones keep their order.
    before, after = by_user(log), by_user(held.log)
    for user, row in before.items():
        warm = [item for item in row if item not in names]
        assert [item for item in after.get(user, []) if item not in names] == warm


def test_cold_users_by_hand() -> None:
    offsets = np.array([0, 3, 5, 6, 10])
    split = cold_users(
        offsets, np.array([False, True, False, False]), np.array([True, False, True, False])
    )
    assert split.train_end.tolist() == [0, 3, 5, 10]
    assert split.valid.tolist() == [-1, 4, -1, -1]
    assert split.test.tolist() == [2, -1, -1, -1]
    assert split.unused == 1
