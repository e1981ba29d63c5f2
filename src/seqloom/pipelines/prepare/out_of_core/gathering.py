"""The step `gather`: collects all events of some users from all files, in time order."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from seqloom.data.checks import Findings, check_ids
from seqloom.data.codes import count_decimals, encode, without_decimals
from seqloom.data.filters import Log, deduplication_mask, exact_repeats, shuffle_log, time_order
from seqloom.data.statistics import LogTally
from seqloom.pipelines.prepare.out_of_core.job import JobFolder

_FILE = 32
"""The key of a user is file << 32 | number, of the first file that names it and its number there. Keys
sort users in the order of first appearance."""


def gather_bucket(
    path: str, read: str, num_items: int, decimals: bool, piece: int
) -> dict[str, Any]:
    """Collects a bucket's events from all files, applies the minimum rating, sorts and removes duplicates.

    With `decimals`, a user 103.0 is the user 103.
    """
    folder = JobFolder(path)
    return folder.run_step(
        "gather", piece, lambda: _gather(folder, read, num_items, decimals, piece)
    )


def _gather(
    folder: JobFolder, read: str, num_items: int, decimals: bool, piece: int
) -> dict[str, Any]:
    job = folder.job()
    written = pl.concat([part["user_id"] for part in folder.batches(read, len(job.files), piece)])
    log, keys, passing = _collect(
        folder, read, num_items, without_decimals(written) if decimals else written, piece
    )
    findings = Findings()
    check_ids("user", log.user_ids, findings)
    raw = LogTally.of(log)
    counts = {"read": len(log)}
    if passing is not None:
        log = log.take(passing)
        counts["min_rating"] = len(log)
    if len(log):
        log = log.take(time_order(log))
    if job.options.ties == "shuffle":
        item_keys = folder.arrays("item-keys", 0)["keys"]
        log = shuffle_log(log, item_keys, job.options.tie_seed)
    kept = deduplication_mask(log, job.options.duplicates)
    if job.options.duplicates != "keep-all":
        log = log.take(kept)
        counts["duplicates"] = len(log)
    arrays = {"users": log.users, "items": log.items, "keys": keys}
    if log.times is not None:
        arrays["times"] = log.times
    folder.write_arrays("gather", piece, arrays)
    folder.write_arrays("gather-raw", piece, {"lengths": raw.lengths, "items": raw.items})
    ids = pa.table({"user_id": log.user_ids.to_arrow().cast(pa.large_string())})
    folder.write_batches("gather", piece, ids, np.array([0, ids.num_rows]))
    return {
        "counts": counts,
        "first": raw.first,
        "last": raw.last,
        "repeats": int(exact_repeats(log).sum()) if log.times is not None else 0,
        "findings": findings.records,
        "decimals": count_decimals(written.unique()) if decimals else 0,
    }


def _collect(
    folder: JobFolder, read: str, num_items: int, user_ids: pl.Series, piece: int
) -> tuple[Log, np.ndarray, np.ndarray | None]:
    """Returns the bucket's log in file order, the key of each user, and a mask of the minimum rating."""
    files = len(folder.job().files)
    names = tuple(name for name in folder.arrays(read, 0) if name != "starts")
    events = list(folder.ranges(read, files, piece, names, "starts"))
    keys, rows, items = [], [], []
    before = 0
    for file, frame in enumerate(folder.batches(read, files, piece)):
        codes = frame["code"].to_numpy()
        keys.append((np.int64(file) << _FILE) | codes.astype(np.int64))
        rows.append(np.searchsorted(codes, events[file]["users"]) + before)
        items.append(folder.arrays("items", file)["numbers"][events[file]["items"]])
        before += len(codes)
    coded = encode(user_ids, "user_id")
    # Files are in order, and each lists its users in the order of their first rows. So the first row of a
    # user is its first appearance, and users are numbered in the order of their keys.
    first = np.unique(coded.codes, return_index=True)[1]
    joined = {name: np.concatenate([part[name] for part in events]) for name in names}
    log = Log(
        users=coded.codes[np.concatenate(rows)],
        items=np.concatenate(items),
        times=joined.get("times"),
        user_ids=coded.labels,
        item_ids=placeholder_ids(num_items),
    )
    return log, np.concatenate(keys)[first], joined.get("wanted")


def placeholder_ids(count: int) -> pl.Series:
    """Returns a column of `count` entries that replaces ids where only their number matters."""
    return pl.zeros(count, dtype=pl.Int8, eager=True)
