"""The steps `core`, `survey`, `times` and `scatter`: the events of a bucket after the k-core."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from seqloom.data.timestamps import SECOND
from seqloom.pipelines.prepare.out_of_core.job import JobFolder, range_starts

_SAMPLES = 256
"""Users sampled from a bucket to find ranges of equal size."""
_COARSE = 16
"""Times are counted in blocks of 2^16 seconds first, then by the second in the blocks of the quantiles."""


def count_items(path: str, step: str, piece: int) -> dict[str, Any]:
    """Runs one round of the k-core on a bucket.

    Removes users with too few events of the items that are left (in `<step>-alive`), and counts the
    remaining events of each item.
    """
    folder = JobFolder(path)

    def work() -> dict[str, Any]:
        events = folder.arrays("gather", piece, ("users", "items"))
        keep = _kept_events(folder, step, events)
        alive = folder.arrays(f"{step}-alive", 0)["alive"]
        counts = np.bincount(events["items"][keep], minlength=len(alive))
        folder.write_arrays(step, piece, {"counts": counts})
        return {"events": int(keep.sum())}

    return folder.run_step(step, piece, work)


def _kept_events(folder: JobFolder, step: str, events: dict[str, np.ndarray]) -> np.ndarray:
    """Returns [events] bool: events of items that are left and of users with enough such events."""
    alive = folder.arrays(f"{step}-alive", 0)["alive"]
    keep = alive[events["items"]]
    users = events["users"]
    enough = np.bincount(users[keep], minlength=int(users.max(initial=-1)) + 1)
    keep &= enough[users] >= folder.job().options.core[0]
    return keep


def survey_bucket(path: str, core: str, piece: int) -> dict[str, Any]:
    """Collects facts of a bucket after the k-core: users, candidates for cold users, times, sampled users."""
    folder = JobFolder(path)
    return folder.run_step("survey", piece, lambda: _survey(folder, core, piece))


def _survey(folder: JobFolder, core: str, piece: int) -> dict[str, Any]:
    events = folder.arrays("gather", piece)
    keep = _kept_events(folder, core, events)
    lengths = np.bincount(events["users"][keep], minlength=len(events["keys"]))
    keys = events["keys"][lengths > 0]
    upto = lengths[lengths > 0].cumsum()
    total = int(upto[-1]) if len(upto) else 0
    at = np.searchsorted(upto, np.linspace(0, total, _SAMPLES, endpoint=False), side="right")
    arrays = {"sample": keys[at] if total else keys}
    facts: dict[str, Any] = {"users": len(keys), "events": total}
    if "times" in events and total:
        seconds = events["times"][keep] // SECOND
        arrays["blocks"], arrays["block_counts"] = np.unique(coarse(seconds), return_counts=True)
        facts["first"] = int(events["times"][keep].min())
    folder.write_arrays("survey", piece, arrays)
    if folder.job().options.cold_users:
        able = folder.table("gather", piece)["user_id"].gather(np.flatnonzero(lengths >= 2))
        ids = pa.table({"user_id": able.to_arrow()})
        folder.write_batches("survey", piece, ids, np.array([0, ids.num_rows]))
    return facts


def count_seconds(path: str, core: str, blocks: list[int], piece: int) -> dict[str, Any]:
    """Counts the kept events of a bucket in each second of some blocks of time."""
    folder = JobFolder(path)

    def work() -> dict[str, Any]:
        events = folder.arrays("gather", piece)
        seconds = events["times"][_kept_events(folder, core, events)] // SECOND
        within = seconds[np.isin(coarse(seconds), blocks)]
        values, counts = np.unique(within, return_counts=True)
        folder.write_arrays("times", piece, {"seconds": values, "counts": counts})
        return {}

    return folder.run_step("times", piece, work)


def coarse(seconds: np.ndarray) -> np.ndarray:
    """Returns the number of the block of each second."""
    return seconds >> _COARSE


def scatter_bucket(path: str, core: str, piece: int) -> dict[str, Any]:
    """Divides the kept events of a bucket into ranges of users, and renumbers the items.

    Item numbers are final, except that cold items do not come last yet.
    """
    folder = JobFolder(path)

    def work() -> dict[str, Any]:
        events = folder.arrays("gather", piece)
        plan = folder.arrays("plan", 0, ("cuts", "numbers"))
        keep = _kept_events(folder, core, events)
        lengths = np.bincount(events["users"][keep], minlength=len(events["keys"]))
        there = np.flatnonzero(lengths)
        keys = events["keys"][there]
        # Users of a bucket are numbered in the order of their keys, so ranges of keys are contiguous.
        users = range_starts(np.searchsorted(plan["cuts"], keys, side="right"), folder.job().parts)
        ends = np.concatenate([[0], lengths[there].cumsum()])
        arrays = {
            "keys": keys,
            "lengths": lengths[there],
            "items": plan["numbers"][events["items"][keep]],
            "users": users,
            "events": ends[users],
        }
        if "times" in events:
            arrays["times"] = events["times"][keep]
        folder.write_arrays("scatter", piece, arrays)
        ids = folder.table("gather", piece)["user_id"].gather(there).to_arrow()
        folder.write_batches("scatter", piece, pa.table({"user_id": ids}), users)
        return {}

    return folder.run_step("scatter", piece, work)
