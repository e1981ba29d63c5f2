"""Makes the decisions that concern all users: item numbers, cold items and users, time bounds, parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from seqloom.data.cold_split import warm_first_order
from seqloom.data.order import id_ranks
from seqloom.data.split import check_temporal, temporal_ranks
from seqloom.pipelines.prepare.out_of_core.filtering import coarse, count_seconds, survey_bucket
from seqloom.pipelines.prepare.out_of_core.job import Job, JobFolder
from seqloom.pipelines.prepare.split_options import (
    check_ties,
    choose_cold_items,
    choose_cold_users,
    given_bounds,
)

RANKS = "ranks-"
"""Arrays of the plan with this prefix hold the order of the item ids."""
_RunStep = Callable[..., list[dict[str, Any]]]
"""Runs a step with its arguments on every bucket and returns its results."""


class Planner:
    """Plans the parts of the data set after the k-core."""

    def __init__(self, job: Job, folder: JobFolder, each: _RunStep) -> None:
        self._job, self._options = job, job.options
        self._folder, self._each = folder, each

    def plan(self, core: str, kept: np.ndarray, all_items: pl.Series) -> pl.Series:
        """Stores the plan for the next steps and returns the ids of the items by their final numbers.

        `kept` [items] are the events of each item after the round `core`.

        Raises:
            DataError: the split does not fit the log, or there are too few items or users to choose cold
                ones.
        """
        surveys = self._each(survey_bucket, core)
        check_ties(self._options, timed=any("first" in one for one in surveys))
        ids = all_items.filter(pl.Series(kept > 0))
        arrays = {
            "cuts": self._cuts(surveys),
            "numbers": (np.cumsum(kept > 0) - 1).astype(np.int32),
            **{f"{RANKS}{name}": ranks for name, ranks in id_ranks(ids).items()},
        }
        if self._options.cold_items:
            arrays["cold"] = choose_cold_items(ids, self._options)
        bounds = self._bounds(core, surveys) if self._options.split == "temporal" else None
        if self._options.cold_users:
            parts = [self._folder.table("survey", b)["user_id"] for b in range(self._job.parts)]
            number = sum(one["users"] for one in surveys)
            chosen = choose_cold_users(pl.concat(parts), number, self._options)
            for part, users in zip(("valid", "test"), chosen, strict=True):
                table = pa.table({"user_id": users.to_arrow()})
                self._folder.write_batches(f"plan-{part}", 0, table, np.array([0, len(users)]))
        self._folder.write_arrays("plan", 0, arrays)
        plan = {
            "bounds": bounds,
            "cold_users": bool(self._options.cold_users),
            "num_items": len(ids),
        }
        self._folder.run_step("plan", 0, lambda: plan)
        return ids.gather(warm_first_order(arrays["cold"])) if "cold" in arrays else ids

    def _cuts(self, surveys: list[dict[str, Any]]) -> np.ndarray:
        """Returns [parts - 1] user keys that divide the events into ranges of similar size."""
        samples, weights = [], []
        for piece, one in enumerate(surveys):
            sample = self._folder.arrays("survey", piece, ("sample",))["sample"]
            samples.append(sample)
            weights.append(np.full(len(sample), one["events"] / max(len(sample), 1)))
        keys, weight = np.concatenate(samples), np.concatenate(weights)
        order = np.argsort(keys, kind="stable")
        upto = weight[order].cumsum()
        edges = upto[-1] * np.arange(1, self._job.parts) / self._job.parts
        cuts: np.ndarray = keys[order][np.searchsorted(upto, edges)]
        return cuts

    def _bounds(self, core: str, surveys: list[dict[str, Any]]) -> tuple[int, int]:
        timed = any("first" in one for one in surveys)
        bounds = given_bounds(self._options, timed=timed)
        if bounds is None:
            bounds = self._quantiles(core, sum(one["events"] for one in surveys))
        check_temporal(min(one["first"] for one in surveys if "first" in one), *bounds)
        return bounds

    def _quantiles(self, core: str, number: int) -> tuple[int, int]:
        """Returns the same seconds as `data.split.temporal_bounds`, without an array of all times.

        Finds the block of each quantile first, then the second in the block.
        """
        pieces = range(self._job.parts)
        arrays = [self._folder.arrays("survey", piece) for piece in pieces]
        blocks, counts = _add_counts(
            [(one["blocks"], one["block_counts"]) for one in arrays if "blocks" in one]
        )
        upto = counts.cumsum()
        shares = (self._options.valid_fraction, self._options.test_fraction)
        ranks = temporal_ranks(number, *shares)
        places = [int(np.searchsorted(upto, rank, side="right")) for rank in ranks]
        self._each(count_seconds, core, sorted({int(blocks[place]) for place in places}))
        fine = [self._folder.arrays("times", piece) for piece in pieces]
        seconds, counts = _add_counts([(one["seconds"], one["counts"]) for one in fine])
        bounds = []
        for rank, place in zip(ranks, places, strict=True):
            mine = coarse(seconds) == blocks[place]
            before = int(upto[place - 1]) if place else 0
            at = np.searchsorted(counts[mine].cumsum(), rank - before, side="right")
            bounds.append(int(seconds[mine][at]))
        return bounds[0], bounds[1]


def _add_counts(counted: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Adds several counts; returns the sorted values and the count of each."""
    values, where = np.unique(np.concatenate([v for v, _ in counted]), return_inverse=True)
    totals = np.zeros(len(values), np.int64)
    np.add.at(totals, where, np.concatenate([n for _, n in counted]))
    return values, totals
