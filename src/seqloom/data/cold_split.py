"""Cold items and cold users: held out of training, and ranked in evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from seqloom.core.errors import DataError
from seqloom.core.random import generator
from seqloom.data.filters import Log
from seqloom.data.split import Split


@dataclass(frozen=True)
class ColdLog:
    """A log whose last items are cold: all their events are test targets."""

    log: Log
    num_cold: int
    removed: int
    """Events of cold items that were removed because they are not test targets."""


def choose_cold(ids: pl.Series, number: int, seed: int, what: str) -> np.ndarray:
    """Chooses `number` ids at random and returns a mask [ids] bool. Does not depend on the order of the ids.

    Raises:
        DataError: no id, or every id, would be cold.
    """
    if not 1 <= number < len(ids):
        raise DataError(
            f"{number} of {len(ids)} {what} would be cold; at least one must be cold and one warm: change "
            "the share"
        )
    draw = torch.randperm(len(ids), generator=generator(seed, "cold", what))[:number]
    chosen = np.zeros(len(ids), np.bool_)
    chosen[ids.arg_sort().to_numpy()[draw.numpy()]] = True
    return chosen


def warm_first_order(cold: np.ndarray) -> np.ndarray:
    """Returns [items] the order of the items with the warm items first, then the cold ones."""
    return np.argsort(cold, kind="stable")


def hold_out_items(log: Log, cold: np.ndarray, split: Callable[[Log], Split]) -> ColdLog:
    """Removes the events of cold items that are not test targets, and numbers the cold items last.

    Removing events shortens histories, which may move a target, so the log is split again until cold
    items are left only in test targets. Users without events are removed.

    Shapes: cold [items of the log] bool.
    """
    before = len(log)
    order = warm_first_order(cold)
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    first_cold = len(cold) - int(cold.sum())
    items = number[log.items].astype(log.items.dtype)
    log = Log(log.users, items, log.times, log.user_ids, log.item_ids[order])
    while True:
        is_target = np.zeros(len(log), np.bool_)
        test = split(log).test
        is_target[test[test >= 0]] = True
        keep = (log.items < first_cold) | is_target
        if keep.all():
            return ColdLog(log, len(cold) - first_cold, before - len(log))
        log = log.take(keep).compact_users()


def cold_users(offsets: np.ndarray, valid: np.ndarray, test: np.ndarray) -> Split:
    """Splits a log by users: the last event of a cold user (in `valid` or `test`) is the target.

    Cold users have no training part; all events of the other users are training events. A cold user
    with one event has no target.

    Source: strong generalisation (Marlin 2004), as Liang et al. (WWW 2018) split users.
    Differs: the target is the last event and the history all before it, as in leave-one-out.

    Shapes: offsets [users + 1], valid and test [users] bool.
    """
    starts, ends = offsets[:-1], offsets[1:]
    some = ends - starts >= 2
    last = np.where(some, ends - 1, -1)
    unused = (ends - starts)[(valid | test) & ~some].sum()
    return Split(
        train_end=np.where(valid | test, starts, ends),
        valid=np.where(valid, last, -1),
        test=np.where(test, last, -1),
        unused=int(unused),
    )
