"""How `prepare` parts what is held out from what is trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
import polars as pl
import torch
from pydantic import Field, model_validator

from seqloom.core.errors import DataError
from seqloom.data.checks import Findings
from seqloom.data.cold import choose, cold_users, hold_out_items
from seqloom.data.filters import Log
from seqloom.data.sources import ReadOptions
from seqloom.data.split import Split, leave_one_out, temporal, temporal_bounds
from seqloom.data.statistics import describe_split
from seqloom.data.store import Events
from seqloom.data.times import SECOND, iso, parse_moment

Splitter = Callable[[Log], Split]


class SplitOptions(ReadOptions):
    """What is held out."""

    split: Literal["leave-one-out", "temporal"] = "leave-one-out"
    """`leave-one-out`: each user's last event is the test target, the one before it the validation
    target. `temporal`: one moment for all users parts training from what is held out."""
    valid_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Temporal split: share of the events that lie in the validation period."""
    test_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Temporal split: share of the events that lie in the test period."""
    valid_from: str | int | None = None
    """Temporal split: begin of the validation period (seconds since 1970 or an ISO date)."""
    test_from: str | int | None = None
    """Temporal split: begin of the test period; give it together with `valid_from`."""
    cold_items: float = Field(default=0.0, ge=0, lt=1)
    """Share of the items that training never meets. Their events are left out, in histories too, but
    for those that are test targets."""
    cold_users: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the users that are test users, and of those that are validation users: nothing of
    either is trained on, and their last event is the target. All events of the others are training
    events."""
    cold_seed: int = 42
    """Seed of the choice of cold items and users."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.valid_from is None) != (self.test_from is None):
            raise ValueError("valid_from and test_from are given together or not at all")
        if self.valid_from is not None and self.split != "temporal":
            raise ValueError("valid_from and test_from need split='temporal'")
        if self.valid_fraction + self.test_fraction >= 1:
            raise ValueError("valid_fraction + test_fraction must be below 1")
        if self.cold_users and self.split != "leave-one-out":
            raise ValueError("cold_users needs split='leave-one-out': users are parted, not times")
        return self


def split_log(
    log: Log, options: SplitOptions, findings: Findings
) -> tuple[Log, Events, dict[str, Any]]:
    """The log without the events of cold items, the events as they are stored, facts of the split.

    Raises:
        DataError: the split does not fit the log, or too few items or users are there to be cold.
    """
    splitter, facts = _splitter(log, options)
    if options.cold_items:
        share = options.cold_items * len(log.item_ids)
        cold = choose(log.item_ids, round(share), options.cold_seed, "items")
        held = hold_out_items(log, cold, splitter)
        log = held.log
        facts |= {"cold_items": held.num_cold, "cold_events_removed": held.removed}
    offsets = user_offsets(log)
    split = splitter(log)
    _tell(log, split, options, findings)
    facts = describe_split(log.items, offsets, split, len(log.item_ids)) | facts
    if options.cold_items:
        targets = log.items[split.test[split.test >= 0]]
        warm = len(log.item_ids) - facts["cold_items"]
        facts["test_targets_cold"] = int((targets >= warm).sum())
    for part in ("valid", "test"):
        if facts[f"{part}_targets"] == 0:
            findings.add(f"no-{part}-targets", 1, f"no user has a {part} target: nothing to rank")
    without = facts["valid_targets_without_history"] + facts["test_targets_without_history"]
    findings.add("target-without-history", without, "targets are the first event of their user")
    return log, _events(log, offsets, split), facts


def user_offsets(log: Log) -> np.ndarray:
    """[users + 1] int64, where each user's events begin in a log in the order of users."""
    offsets = np.zeros(len(log.user_ids) + 1, np.int64)
    np.cumsum(np.bincount(log.users, minlength=len(log.user_ids)), out=offsets[1:])
    return offsets


def _splitter(log: Log, options: SplitOptions) -> tuple[Splitter, dict[str, Any]]:
    """The rule for this log and for any part of it, and what the rule was given."""
    if options.split == "temporal":
        valid_from, test_from = _bounds(log, options)

        def by_time(part: Log) -> Split:
            assert part.times is not None
            return temporal(part.times, part.users, user_offsets(part), valid_from, test_from)

        return by_time, {"valid_from": iso(valid_from), "test_from": iso(test_from)}
    if not options.cold_users:
        return lambda part: leave_one_out(user_offsets(part)), {}
    able = log.user_ids.filter(pl.Series(np.diff(user_offsets(log)) >= 2))
    number = round(options.cold_users * len(log.user_ids))
    both = able.filter(pl.Series(choose(able, 2 * number, options.cold_seed, "users")))
    tested = pl.Series(choose(both, number, options.cold_seed, "test users"))
    test, valid = both.filter(tested), both.filter(~tested)

    def by_user(part: Log) -> Split:
        among = [part.user_ids.is_in(chosen.implode()).to_numpy() for chosen in (valid, test)]
        return cold_users(user_offsets(part), *among)

    return by_user, {"cold_test_users": number, "cold_valid_users": len(both) - number}


def _bounds(log: Log, options: SplitOptions) -> tuple[int, int]:
    if log.times is None:
        raise DataError("split='temporal' needs times, and the log has none; use leave-one-out")
    if options.valid_from is not None and options.test_from is not None:
        return (
            parse_moment(options.valid_from, "valid_from"),
            parse_moment(options.test_from, "test_from"),
        )
    return temporal_bounds(log.times, options.valid_fraction, options.test_fraction)


def _tell(log: Log, split: Split, options: SplitOptions, findings: Findings) -> None:
    if options.split == "leave-one-out" and not options.cold_users:
        findings.add(
            "short-user",
            int((split.test < 0).sum()),
            "users with fewer than 3 events stay in training only",
            log.user_ids.filter(pl.Series(split.test < 0)).head(5),
        )
        return
    findings.add(
        "unused-event",
        split.unused,
        "events of the held-out part are neither target nor in the history of one",
    )


def _events(log: Log, offsets: np.ndarray, split: Split) -> Events:
    return Events(
        items=torch.from_numpy((log.items + 1).astype(np.int32, copy=False)),
        offsets=torch.from_numpy(offsets),
        train_end=torch.from_numpy(split.train_end.astype(np.int64, copy=False)),
        valid=torch.from_numpy(split.valid.astype(np.int64, copy=False)),
        test=torch.from_numpy(split.test.astype(np.int64, copy=False)),
        timestamps=None if log.times is None else torch.from_numpy(log.times // SECOND),
    )
