"""Statistics of a log, before and after filtering, and of its split.

Counts are tallies that can be added, so that each part of a large log can be counted alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqloom.data.filters import Log
from seqloom.data.split import Split
from seqloom.data.timestamps import SECOND, iso


@dataclass(frozen=True)
class LogTally:
    """Counts of a log that holds all events of its users."""

    lengths: np.ndarray
    """[longest history + 1] int64: number of users by number of events."""
    items: np.ndarray
    """[items] int64: events of each item."""
    first: int | None
    """Time of the first event in microseconds; None without times or events."""
    last: int | None

    @classmethod
    def of(cls, log: Log) -> LogTally:
        """Counts a log."""
        of_users = np.bincount(log.users, minlength=len(log.user_ids))
        timed = log.times is not None and len(log) > 0
        return cls(
            lengths=np.bincount(of_users[of_users > 0], minlength=1),
            items=np.bincount(log.items, minlength=len(log.item_ids)),
            first=int(log.times.min()) if timed and log.times is not None else None,
            last=int(log.times.max()) if timed and log.times is not None else None,
        )

    @classmethod
    def sum(cls, tallies: Iterable[LogTally]) -> LogTally:
        """Adds the tallies of all parts."""
        parts = list(tallies)
        firsts = [part.first for part in parts if part.first is not None]
        lasts = [part.last for part in parts if part.last is not None]
        return cls(
            lengths=_sum([part.lengths for part in parts]),
            items=_sum([part.items for part in parts]),
            first=min(firsts, default=None),
            last=max(lasts, default=None),
        )

    def facts(self) -> dict[str, Any]:
        """Returns users, items, events, density, lengths of the histories, first and last date."""
        values = np.arange(len(self.lengths))
        users = int(self.lengths.sum())
        events = int((self.lengths * values).sum())
        items = int((self.items > 0).sum())
        facts: dict[str, Any] = {
            "users": users,
            "items": items,
            "events": events,
            "density": events / (users * items) if events else 0.0,
            "mean_length": events / users if users else 0.0,
            "median_length": _median(self.lengths) if users else 0.0,
            "max_length": int(values[self.lengths > 0].max()) if users else 0,
        }
        if self.first is not None and self.last is not None:
            facts["first_date"] = iso(self.first // SECOND)
            facts["last_date"] = iso(self.last // SECOND)
        return facts


def describe(log: Log) -> dict[str, Any]:
    """Returns the facts of a whole log."""
    return LogTally.of(log).facts()


@dataclass(frozen=True)
class SplitTally:
    """Counts of a split: of users, and for each item how often it is trained on or a target."""

    numbers: dict[str, int]
    """`train_events`, `train_only_users`, ... : sums over users."""
    train: np.ndarray
    """[items] int64: training events of each item."""
    targets: dict[str, np.ndarray]
    """For `valid` and `test`: [items] int64, how often each item is the target."""

    @classmethod
    def of(cls, items: np.ndarray, offsets: np.ndarray, split: Split, num_items: int) -> SplitTally:
        """Counts a split. Shapes: items [events] from 0, offsets [users + 1]."""
        inside = np.zeros(len(items) + 1, np.int8)
        np.add.at(inside, offsets[:-1], 1)
        np.add.at(inside, split.train_end, -1)
        in_train = np.cumsum(inside[:-1], dtype=np.int8) > 0
        numbers = {
            "train_events": int((split.train_end - offsets[:-1]).sum()),
            "train_only_users": int(((split.valid < 0) & (split.test < 0)).sum()),
            "unused_events": split.unused,
        }
        targets = {}
        for part, at in (("valid", split.valid), ("test", split.test)):
            held = at >= 0
            numbers[f"{part}_targets"] = int(held.sum())
            without = int((at[held] == offsets[:-1][held]).sum())
            numbers[f"{part}_targets_without_history"] = without
            targets[part] = np.bincount(items[at[held]], minlength=num_items)
        return cls(numbers, np.bincount(items[in_train], minlength=num_items), targets)

    @classmethod
    def sum(cls, tallies: Iterable[SplitTally]) -> SplitTally:
        """Adds the tallies of all parts."""
        parts = list(tallies)
        return cls(
            {key: sum(part.numbers[key] for part in parts) for key in parts[0].numbers},
            _sum([part.train for part in parts]),
            {name: _sum([part.targets[name] for part in parts]) for name in parts[0].targets},
        )

    def facts(self) -> dict[str, Any]:
        """Returns the counts of training events, and for each part of targets, those without a history and
        those that are not in training."""
        facts: dict[str, Any] = {
            key: self.numbers[key] for key in ("train_events", "train_only_users", "unused_events")
        }
        for part, targets in self.targets.items():
            for key in (f"{part}_targets", f"{part}_targets_without_history"):
                facts[key] = self.numbers[key]
            facts[f"{part}_targets_not_in_train"] = int(targets[self.train == 0].sum())
        return facts


def describe_split(
    items: np.ndarray, offsets: np.ndarray, split: Split, num_items: int
) -> dict[str, Any]:
    """Returns the facts of the split of a whole log."""
    return SplitTally.of(items, offsets, split, num_items).facts()


def _sum(arrays: list[np.ndarray]) -> np.ndarray:
    """Sums arrays of counts; shorter arrays are extended by 0."""
    total = np.zeros(max(map(len, arrays)), np.int64)
    for array in arrays:
        total[: len(array)] += array
    return total


def _median(histogram: np.ndarray) -> float:
    """Computes the median of values that occur `histogram[value]` times."""
    upto = histogram.cumsum()
    number = int(upto[-1])
    low, high = (
        int(np.searchsorted(upto, rank, side="right")) for rank in ((number - 1) // 2, number // 2)
    )
    return (low + high) / 2
