"""Filters of coded events as array operations: order by time, ties, duplicates, k-core."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.sparse import coo_matrix

from seqloom.data.options import Duplicates
from seqloom.data.tie_keys import tie_keys
from seqloom.data.ties import TieKeys, joined_events, shuffled_positions

_DIGIT = 16


@dataclass(frozen=True)
class Log:
    """Coded events. All arrays have one length; codes are indices into the id lists."""

    users: np.ndarray
    """[events] int32."""
    items: np.ndarray
    """[events] int32."""
    times: np.ndarray | None
    """[events] int64, microseconds since 1970, or None where only the order is known."""
    user_ids: pl.Series
    item_ids: pl.Series

    def __len__(self) -> int:
        return len(self.users)

    def take(self, which: np.ndarray) -> Log:
        """Selects events by a mask or by positions."""
        times = None if self.times is None else self.times[which]
        return Log(self.users[which], self.items[which], times, self.user_ids, self.item_ids)

    def compact(self) -> Log:
        """Removes ids without events and renumbers the codes without gaps, in the same order."""
        users, user_ids = _without_gaps(self.users, self.user_ids)
        items, item_ids = _without_gaps(self.items, self.item_ids)
        return Log(users, items, self.times, user_ids, item_ids)

    def compact_users(self) -> Log:
        """Does the same only for users; items keep their codes, with events or without."""
        users, user_ids = _without_gaps(self.users, self.user_ids)
        return Log(users, self.items, self.times, user_ids, self.item_ids)


def _without_gaps(codes: np.ndarray, ids: pl.Series) -> tuple[np.ndarray, pl.Series]:
    used = np.bincount(codes, minlength=len(ids)) > 0
    if used.all():
        return codes, ids
    numbers = np.cumsum(used, dtype=np.int32) - 1
    return numbers[codes], ids.filter(pl.Series(used))


def time_order(log: Log) -> np.ndarray:
    """Returns [events] positions that sort by user, then by time, ties in the order of the log.

    A radix sort: linear, and several times faster than a comparison sort.
    """
    if log.times is None:
        return counting_order(log.users)
    # Most logs are in the order of time. Checking a few users first is a cheap way to see if one is not.
    few = np.flatnonzero(log.users < len(log.user_ids) // 64)
    if _is_ordered(log, few[counting_order(log.users[few])]):
        order = counting_order(log.users)
        if _is_ordered(log, order):
            return order
    rest = log.times - log.times.min()
    if not (rest % 1_000_000).any():
        rest //= 1_000_000
    order = np.arange(len(log), dtype=np.int32)
    while True:
        digit = (rest & ((1 << _DIGIT) - 1)).astype(np.int32)
        order = order[counting_order(digit[order])]
        rest >>= _DIGIT
        if not rest.any():
            break
    return order[counting_order(log.users[order])]


def counting_order(keys: np.ndarray) -> np.ndarray:
    """Returns [events] positions that sort `keys` (not negative) stably, in linear time."""
    if len(keys) == 0:
        return np.empty(0, np.int64)
    columns = np.arange(len(keys), dtype=np.int32 if len(keys) < 2**31 else np.int64)
    shape = (int(keys.max()) + 1, len(keys))
    return coo_matrix((np.ones(len(keys), np.bool_), (keys, columns)), shape).tocsr().indices


def _is_ordered(log: Log, order: np.ndarray) -> bool:
    assert log.times is not None
    users, times = log.users[order], log.times[order]
    return not bool(((times[1:] < times[:-1]) & (users[1:] == users[:-1])).any())


def exact_repeats(log: Log) -> np.ndarray:
    """Returns [events] bool: the event has the user, item and (where known) time of the event before it.

    `log` must be in time order.
    """
    again = np.zeros(len(log), np.bool_)
    again[1:] = (log.users[1:] == log.users[:-1]) & (log.items[1:] == log.items[:-1])
    if log.times is not None:
        again[1:] &= log.times[1:] == log.times[:-1]
    return again


def shuffle_log(log: Log, item_keys: np.ndarray, seed: int) -> Log:
    """Shuffles the events of each tie of a log in time order; see `shuffled_positions`.

    Shapes: item_keys [items] int64 (`data.tie_keys`).
    """
    joined = joined_events(log.users, log.times)
    if not joined.any():
        return log
    users = np.zeros(len(log.user_ids), np.int64)
    concerned = np.unique(log.users[joined])
    users[concerned] = tie_keys(log.user_ids.gather(concerned).to_list()).numpy()
    keys = TieKeys(users, item_keys, seed)
    return log.take(shuffled_positions(joined, log.users, log.items, keys))


def deduplication_mask(log: Log, policy: Duplicates) -> np.ndarray:
    """Returns [events] bool: the events that a policy for repeated (user, item) pairs keeps.

    `first` and `last` keep one event per pair; `consecutive` keeps one event of each run of the same
    item. `log` must be in time order.
    """
    keep = np.ones(len(log), np.bool_)
    if policy == "keep-all" or len(log) == 0:
        return keep
    if policy == "consecutive":
        keep[1:] = (log.users[1:] != log.users[:-1]) | (log.items[1:] != log.items[:-1])
        return keep
    by_item = counting_order(log.items)
    order = by_item[counting_order(log.users[by_item])]
    users, items = log.users[order], log.items[order]
    new = np.ones(len(log), np.bool_)
    new[1:] = (users[1:] != users[:-1]) | (items[1:] != items[:-1])
    edge = new if policy == "first" else np.append(new[1:], True)
    keep[order] = edge
    return keep


def k_core(log: Log, min_user_count: int, min_item_count: int) -> np.ndarray:
    """Returns [events] bool: the k-core, the largest part in which every user and item has enough events."""
    keep = np.ones(len(log), np.bool_)
    if min_user_count <= 1 and min_item_count <= 1:
        return keep
    where = np.arange(len(log), dtype=np.int32 if len(log) < 2**31 else np.int64)
    users, items = log.users, log.items
    while len(users):
        good_user = np.bincount(users, minlength=len(log.user_ids)) >= min_user_count
        good_item = np.bincount(items, minlength=len(log.item_ids)) >= min_item_count
        good = good_user[users] & good_item[items]
        if good.all():
            break
        keep[where[~good]] = False
        users, items, where = users[good], items[good], where[good]
    return keep
