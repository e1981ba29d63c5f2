"""The step `write`: writes one range of users, from all buckets, as a part of the data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from seqloom.data.catalog import arrow_strings
from seqloom.data.filters import Log
from seqloom.data.order import OrderTally
from seqloom.data.parts import write_part
from seqloom.data.repeats import PARTS, RepeatTally
from seqloom.data.statistics import LogTally, SplitTally
from seqloom.pipelines.prepare.out_of_core.gathering import placeholder_ids
from seqloom.pipelines.prepare.out_of_core.job import JobFolder
from seqloom.pipelines.prepare.out_of_core.planning import RANKS
from seqloom.pipelines.prepare.split_options import SplitCounts, SplitPlan, split_part


def write_range(path: str, piece: int) -> dict[str, Any]:
    """Writes one part of the data set and returns its counts."""
    folder = JobFolder(path)
    return folder.run_step("write", piece, lambda: _write(folder, piece))


def stored_plan(folder: JobFolder) -> SplitPlan:
    """Reads the plan of the split."""
    plan = folder.results("plan", 1)[0]
    arrays = folder.arrays("plan", 0)
    users = None
    if plan["cold_users"]:
        valid, test = (folder.table(f"plan-{part}", 0)["user_id"] for part in ("valid", "test"))
        users = (valid, test)
    bounds = plan["bounds"]
    return SplitPlan(
        bounds=None if bounds is None else (bounds[0], bounds[1]),
        cold_items=arrays.get("cold"),
        cold_users=users,
        ties=folder.job().options.ties,
        id_ranks={
            name.removeprefix(RANKS): ranks
            for name, ranks in arrays.items()
            if name.startswith(RANKS)
        },
    )


def _write(folder: JobFolder, piece: int) -> dict[str, Any]:
    log = _collect(folder, piece)
    part = split_part(log, stored_plan(folder))
    users = arrow_strings(pl.DataFrame({"user_id": part.log.user_ids}))
    record = write_part(folder.path / "dataset", piece, users, part.events)
    tally = LogTally.of(part.log)
    split = part.counts.tally
    arrays = {"lengths": tally.lengths, "items": tally.items, "train": split.train}
    arrays |= {f"{name}_targets": counts for name, counts in split.targets.items()}
    order, repeats = part.counts.order, part.counts.repeats
    arrays |= {f"{name}_gaps": gaps for name, gaps in repeats.gaps.items()}
    if order.first is not None:
        arrays["first_events"] = order.first
    folder.write_arrays("write", piece, arrays)
    return {
        "record": record.model_dump(),
        "first": tally.first,
        "last": tally.last,
        "numbers": split.numbers,
        "cold_events_removed": part.counts.cold_events_removed,
        "short": part.counts.short,
        "num_short": part.counts.num_short,
        "tied": part.counts.tied,
        "order": {
            "sequences": order.sequences,
            "chance": order.chance,
            "counts": order.counts,
        },
        "repeats": repeats.events,
    }


def stored_counts(folder: JobFolder, results: list[dict[str, Any]]) -> list[SplitCounts]:
    """Reads the counts of the split of each part."""
    counts = []
    for piece, one in enumerate(results):
        arrays = folder.arrays("write", piece)
        targets = {name: arrays[f"{name}_targets"] for name in ("valid", "test")}
        tally = SplitTally(one["numbers"], arrays["train"], targets)
        gaps = {name: arrays[f"{name}_gaps"] for name in PARTS}
        counts.append(
            SplitCounts(
                tally=tally,
                cold_events_removed=one["cold_events_removed"],
                short=one["short"],
                num_short=one["num_short"],
                tied=one["tied"],
                order=OrderTally(first=arrays.get("first_events"), **one["order"]),
                repeats=RepeatTally(one["repeats"], gaps),
            )
        )
    return counts


def stored_tally(folder: JobFolder, step: str, results: list[dict[str, Any]]) -> LogTally:
    """Adds the tallies of a step over all pieces."""
    tallies = []
    for piece, result in enumerate(results):
        arrays = folder.arrays(step, piece, ("lengths", "items"))
        tallies.append(
            LogTally(arrays["lengths"], arrays["items"], result["first"], result["last"])
        )
    return LogTally.sum(tallies)


def _collect(folder: JobFolder, piece: int) -> Log:
    """Collects the events of a range of users, in the order of the users' first appearance."""
    count = folder.job().parts
    timed = "times" in folder.arrays("scatter", 0)
    names = ("items", "times") if timed else ("items",)
    users = list(folder.ranges("scatter", count, piece, ("keys", "lengths"), "users"))
    events = list(folder.ranges("scatter", count, piece, names, "events"))
    ids = pl.concat([frame["user_id"] for frame in folder.batches("scatter", count, piece)])
    keys, lengths = (np.concatenate([part[n] for part in users]) for n in ("keys", "lengths"))
    order = np.argsort(keys)
    starts = lengths.cumsum() - lengths
    sizes = lengths[order]
    before = sizes.cumsum() - sizes
    total = int(sizes.sum())
    # The position in the old order of each event of the new order.
    places = np.arange(total) - np.repeat(before - starts[order], sizes)
    items, *rest = (np.concatenate([part[name] for part in events])[places] for name in names)
    return Log(
        users=np.repeat(np.arange(len(order), dtype=np.int32), sizes),
        items=items,
        times=rest[0] if rest else None,
        user_ids=ids.gather(order),
        item_ids=placeholder_ids(folder.results("plan", 1)[0]["num_items"]),
    )
