"""Options of the split, and splitting a log by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import torch

from seqloom.core.errors import DataError
from seqloom.data.checks import MAX_EXAMPLES, Findings
from seqloom.data.cold_split import choose_cold, cold_users, hold_out_items
from seqloom.data.events import Events
from seqloom.data.filters import Log
from seqloom.data.options import Ties
from seqloom.data.order import OrderTally, id_ranks
from seqloom.data.order_checks import check_facts
from seqloom.data.repeats import RepeatTally, masks_seen
from seqloom.data.split import (
    Split,
    check_temporal,
    drop_targets,
    leave_one_out,
    split_at,
    temporal_bounds,
)
from seqloom.data.statistics import SplitTally
from seqloom.data.ties import joined_events, tied_events
from seqloom.data.timestamps import SECOND, iso, parse_moment
from seqloom.pipelines.prepare.options import SplitOptions

_FEWEST_EVENTS = 3
"""Events that leave-one-out needs of a user."""


@dataclass(frozen=True)
class SplitPlan:
    """The decisions of a split that concern all users; the rest depends on each user's events."""

    bounds: tuple[int, int] | None = None
    """Temporal split: the seconds at which validation and test begin."""
    cold_items: np.ndarray | None = None
    """[items] bool: the items without training events."""
    cold_users: tuple[pl.Series, pl.Series] | None = None
    """Ids of the validation users and of the test users, where these are cold."""
    ties: Ties = "file"
    id_ranks: Mapping[str, np.ndarray] = field(default_factory=dict)
    """The order of the item ids (`data.order.id_ranks`)."""

    def split(self, log: Log) -> Split:
        """Splits a log that holds all events of its users."""
        offsets = user_offsets(log)
        if self.bounds is not None:
            assert log.times is not None
            return split_at(log.times, log.users, offsets, *self.bounds)
        if self.cold_users is None:
            return leave_one_out(offsets)
        masks = [log.user_ids.is_in(chosen.implode()).to_numpy() for chosen in self.cold_users]
        return cold_users(offsets, *masks)

    def facts(self) -> dict[str, Any]:
        """Returns the bounds or numbers of cold users, for the manifest."""
        if self.bounds is not None:
            return {
                f"{part}_from": iso(at)
                for part, at in zip(("valid", "test"), self.bounds, strict=True)
            }
        if self.cold_users is None:
            return {}
        valid, test = self.cold_users
        return {"cold_test_users": len(test), "cold_valid_users": len(valid)}


@dataclass(frozen=True)
class SplitCounts:
    """Counts of the split of some users."""

    tally: SplitTally
    cold_events_removed: int
    short: list[str]
    """The first ids of users with too few events for leave-one-out."""
    num_short: int
    tied: dict[str, int]
    """Of all events (`of`) the `events`, and the `valid` and `test` targets, that share their time with
    another item of their user. Dropped targets count as `valid_dropped` and `test_dropped`."""
    order: OrderTally
    repeats: RepeatTally


@dataclass(frozen=True)
class SplitPart:
    """The events of some users, split."""

    log: Log
    events: Events
    counts: SplitCounts


def split_log(
    log: Log, options: SplitOptions, findings: Findings
) -> tuple[Log, Events, dict[str, Any]]:
    """Splits a log.

    Returns the log without the removed events of cold items, the events as they are stored, and the
    facts of the split.

    Raises:
        DataError: the split does not fit the log, or there are too few items or users to choose cold ones.
    """
    plan = plan_split(log, options)
    part = split_part(log, plan)
    return part.log, part.events, report_split([part.counts], plan, options, findings)


def plan_split(log: Log, options: SplitOptions) -> SplitPlan:
    """Makes the decisions that concern all users.

    Raises:
        DataError: as `split_log`.
    """
    check_ties(options, timed=log.times is not None)
    cold = None
    if options.cold_items:
        cold = choose_cold_items(log.item_ids, options)
    shared: dict[str, Any] = {
        "cold_items": cold,
        "ties": options.ties,
        "id_ranks": id_ranks(log.item_ids),
    }
    if options.split == "temporal":
        bounds = given_bounds(options, timed=log.times is not None)
        assert log.times is not None
        bounds = bounds or temporal_bounds(log.times, options.valid_fraction, options.test_fraction)
        check_temporal(int(log.times.min()), *bounds)
        return SplitPlan(bounds=bounds, **shared)
    if not options.cold_users:
        return SplitPlan(**shared)
    able = log.user_ids.filter(pl.Series(np.diff(user_offsets(log)) >= 2))
    return SplitPlan(cold_users=choose_cold_users(able, len(log.user_ids), options), **shared)


def check_ties(options: SplitOptions, *, timed: bool) -> None:
    """Checks that ties can be known where they are to be shuffled or dropped.

    Raises:
        DataError: the log has no times.
    """
    if options.ties != "file" and not timed:
        raise DataError(
            f"ties={options.ties!r} needs times, but the log has none; name its time column with "
            "timestamp_column, or use ties='file'"
        )


def choose_cold_items(ids: pl.Series, options: SplitOptions) -> np.ndarray:
    """Chooses cold items, a mask [items] bool. Raises the errors of `data.cold_split.choose_cold`."""
    return choose_cold(ids, round(options.cold_items * len(ids)), options.cold_seed, "items")


def choose_cold_users(
    able: pl.Series, num_users: int, options: SplitOptions
) -> tuple[pl.Series, pl.Series]:
    """Chooses the ids of validation and test users from `able`, the users with at least two events."""
    number = round(options.cold_users * num_users)
    both = able.filter(pl.Series(choose_cold(able, 2 * number, options.cold_seed, "users")))
    tested = pl.Series(choose_cold(both, number, options.cold_seed, "test users"))
    return both.filter(~tested), both.filter(tested)


def given_bounds(options: SplitOptions, *, timed: bool) -> tuple[int, int] | None:
    """Returns the bounds of a temporal split from the options, or None where these give fractions.

    Raises:
        DataError: the log has no times.
    """
    if not timed:
        raise DataError(
            "split='temporal' needs times, but the log has none; name its time column with "
            "timestamp_column, or use split='leave-one-out'"
        )
    if options.valid_from is None or options.test_from is None:
        return None
    return (
        parse_moment(options.valid_from, "valid_from"),
        parse_moment(options.test_from, "test_from"),
    )


def split_part(log: Log, plan: SplitPlan) -> SplitPart:
    """Splits the events of some users, or of all users."""
    order = OrderTally.of(log.items, user_offsets(log), plan.id_ranks, log.times)
    removed = 0
    if plan.cold_items is not None:
        cold = hold_out_items(log, plan.cold_items, plan.split)
        log, removed = cold.log, cold.removed
    offsets = user_offsets(log)
    split, tied = _split_ties(log, offsets, plan)
    without = (split.test < 0) & (np.diff(offsets) < _FEWEST_EVENTS)
    counts = SplitCounts(
        tally=SplitTally.of(log.items, offsets, split, len(log.item_ids)),
        cold_events_removed=removed,
        short=log.user_ids.filter(pl.Series(without)).head(MAX_EXAMPLES).to_list(),
        num_short=int(without.sum()),
        tied=tied,
        order=order,
        repeats=RepeatTally.of(log.items, offsets, split.train_end, split.valid, split.test),
    )
    return SplitPart(log, _events(log, offsets, split), counts)


def _split_ties(log: Log, offsets: np.ndarray, plan: SplitPlan) -> tuple[Split, dict[str, int]]:
    """Splits a log, and counts ties and the targets that are dropped for them."""
    split = plan.split(log)
    tied = tied_events(joined_events(log.users, log.times), log.items)
    counts = {"events": int(tied.sum()), "of": len(tied)}
    for part, at in (("valid", split.valid), ("test", split.test)):
        counts[part] = int(tied[at[at >= 0]].sum())
        counts[f"{part}_dropped"] = 0
    if plan.ties == "drop-targets":
        split = drop_targets(split, tied, offsets)
        for part in ("valid", "test"):
            counts[f"{part}_dropped"], counts[part] = counts[part], 0
    return split, counts


def report_split(
    parts: Sequence[SplitCounts], plan: SplitPlan, options: SplitOptions, findings: Findings
) -> dict[str, Any]:
    """Returns the facts of the split of all parts, and adds warnings to `findings`."""
    tally = SplitTally.sum(part.tally for part in parts)
    facts = tally.facts() | plan.facts()
    if plan.cold_items is not None:
        number = int(plan.cold_items.sum())
        facts |= {
            "cold_items": number,
            "cold_events_removed": sum(part.cold_events_removed for part in parts),
            "test_targets_cold": int(tally.targets["test"][len(tally.train) - number :].sum()),
        }
    tied = {name: sum(part.tied[name] for part in parts) for name in parts[0].tied}
    _report_ties(tied, facts, options, findings)
    if any(part.order.first is not None for part in parts):
        facts["ties"] = tied
    facts |= _report_order(parts, plan, facts, options, findings)
    if options.split == "leave-one-out" and not options.cold_users:
        findings.add(
            "short-user",
            sum(part.num_short for part in parts),
            "users are in training only: they have fewer than 3 events",
            [user for part in parts for user in part.short],
        )
    else:
        findings.add(
            "unused-event",
            facts["unused_events"],
            "held-out events are unused: they are neither a target nor in the history of a target",
        )
    for name in ("valid", "test"):
        if facts[f"{name}_targets"] == 0:
            part = "validation" if name == "valid" else name
            findings.add(
                f"no-{name}-targets", 1, f"no user has a {part} target: nothing can be ranked"
            )
    without = facts["valid_targets_without_history"] + facts["test_targets_without_history"]
    findings.add(
        "target-without-history",
        without,
        "targets are the first event of their user, who has no history",
    )
    return facts


def _report_ties(
    tied: Mapping[str, int], facts: Mapping[str, Any], options: SplitOptions, findings: Findings
) -> None:
    valid, test = (tied[part] + tied[f"{part}_dropped"] for part in ("valid", "test"))
    order = {
        "file": "so they keep the order of the file",
        "shuffle": f"so they are in a random order (tie_seed={options.tie_seed})",
        "drop-targets": "so they keep the order of the file, and such targets are not evaluated",
    }
    whole = {part: facts[f"{part}_targets"] + tied[f"{part}_dropped"] for part in ("valid", "test")}
    findings.add(
        "equal-times",
        tied["events"],
        f"events have the same time as another item of their user, {order[options.ties]}; "
        f"{valid:,} of {whole['valid']:,} validation targets and {test:,} of {whole['test']:,} test targets "
        "are such events",
    )


def _report_order(
    parts: Sequence[SplitCounts],
    plan: SplitPlan,
    facts: Mapping[str, Any],
    options: SplitOptions,
    findings: Findings,
) -> dict[str, Any]:
    """Returns the facts of order and repeats, and adds warnings.

    Raises:
        DataError: the sequences are sorted by item id, and `allow_sorted` is false.
    """
    repeats = RepeatTally.sum(part.repeats for part in parts)
    order: dict[str, Any] = {
        "order": OrderTally.sum(part.order for part in parts).facts(plan.id_ranks),
        "repeats": repeats.facts(),
        "mask_seen": masks_seen(options.mask_seen, repeats.share("train")),
    }
    for check in check_facts({**facts, **order}, allow_sorted=options.allow_sorted):
        if check.verdict == "error":
            remedy = "prepare the original log with its times"
            if facts.get("ties", {}).get("events"):
                remedy = "order events at the same time at random (ties='shuffle')"
            raise DataError(
                f"{check.sentence}. A model trained on them can have fine figures and know nothing of time: "
                f"{remedy}, or set allow_sorted to go on"
            )
        if check.verdict == "warning" and check.name != "tied-targets":  # `equal-times` says it
            findings.add(check.name, max(check.count, 1), check.sentence)
    return order


def user_offsets(log: Log) -> np.ndarray:
    """Returns [users + 1] int64, where each user's events begin in a log sorted by user."""
    offsets = np.zeros(len(log.user_ids) + 1, np.int64)
    np.cumsum(np.bincount(log.users, minlength=len(log.user_ids)), out=offsets[1:])
    return offsets


def _events(log: Log, offsets: np.ndarray, split: Split) -> Events:
    joined = None
    if log.times is not None and (log.times % SECOND).any():
        joined = torch.from_numpy(joined_events(log.users, log.times))
    return Events(
        items=torch.from_numpy((log.items + 1).astype(np.int32, copy=False)),
        offsets=torch.from_numpy(offsets),
        train_end=torch.from_numpy(split.train_end.astype(np.int64, copy=False)),
        valid=torch.from_numpy(split.valid.astype(np.int64, copy=False)),
        test=torch.from_numpy(split.test.astype(np.int64, copy=False)),
        timestamps=None if log.times is None else torch.from_numpy(log.times // SECOND),
        joined=joined,
    )
