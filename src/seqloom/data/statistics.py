"""Counts of a log, before and after filtering, and of its held-out parts."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqloom.data.filters import Log
from seqloom.data.split import Split
from seqloom.data.times import SECOND, iso


def describe(log: Log) -> dict[str, Any]:
    """Users, items, events, density, lengths of the users' histories, first and last date."""
    lengths = np.bincount(log.users, minlength=len(log.user_ids))
    lengths = lengths[lengths > 0]
    items = int((np.bincount(log.items, minlength=len(log.item_ids)) > 0).sum())
    users, events = len(lengths), len(log)
    facts: dict[str, Any] = {
        "users": users,
        "items": items,
        "events": events,
        "density": events / (users * items) if events else 0.0,
        "mean_length": float(lengths.mean()) if users else 0.0,
        "median_length": float(np.median(lengths)) if users else 0.0,
        "max_length": int(lengths.max()) if users else 0,
    }
    if log.times is not None and events:
        facts["first_date"] = iso(int(log.times.min()) // SECOND)
        facts["last_date"] = iso(int(log.times.max()) // SECOND)
    return facts


def describe_split(
    items: np.ndarray, offsets: np.ndarray, split: Split, num_items: int
) -> dict[str, Any]:
    """Training events; for each part its targets, those without history, those new to training."""
    train = np.zeros(len(items) + 1, np.int8)
    np.add.at(train, offsets[:-1], 1)
    np.add.at(train, split.train_end, -1)
    in_train = np.bincount(items[np.cumsum(train[:-1], dtype=np.int8) > 0], minlength=num_items)
    facts: dict[str, Any] = {
        "train_events": int((split.train_end - offsets[:-1]).sum()),
        "train_only_users": int(((split.valid < 0) & (split.test < 0)).sum()),
        "unused_events": split.unused,
    }
    for part, at in (("valid", split.valid), ("test", split.test)):
        held = at >= 0
        facts[f"{part}_targets"] = int(held.sum())
        facts[f"{part}_targets_without_history"] = int((at[held] == offsets[:-1][held]).sum())
        facts[f"{part}_targets_not_in_train"] = int((in_train[items[at[held]]] == 0).sum())
    return facts
