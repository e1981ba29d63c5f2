"""The step `read`: codes the events of one file and divides them by a hash of the user."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from seqloom.data.assemble import code_log
from seqloom.data.checks import Findings
from seqloom.data.codes import are_integers, count_decimals, without_decimals
from seqloom.data.filters import counting_order
from seqloom.data.sources import read_log
from seqloom.data.timestamps import Times
from seqloom.pipelines.prepare.out_of_core.job import JobFolder, range_starts
from seqloom.pipelines.prepare.prepare import source_records

_LATER = ("blanks-around-user-id", "blanks-around-item-id")
"""Warnings about ids, which may be in several files, so that a later step makes them."""


def read_piece(
    path: str, step: str, unit: str, day_first: bool | None, piece: int
) -> dict[str, Any]:
    """Reads one file and stores its events by bucket, its users by bucket, and its items.

    Raises:
        DataError: as `prepare` for the same file.
    """
    folder = JobFolder(path)
    return folder.run_step(step, piece, lambda: _read(folder, step, unit, day_first, piece))


def _read(
    folder: JobFolder, step: str, unit: str, day_first: bool | None, piece: int
) -> dict[str, Any]:
    job = folder.job()
    options = job.options.model_copy(update={"format": job.format, "timestamp_unit": unit})
    file = Path(job.files[piece])
    source = read_log(file, options)
    findings = Findings()
    rows = len(source.columns["user_id"])
    coded = code_log(
        source,
        options.timestamp_unit,
        options.missing,
        findings,
        time_format=options.time_format,
        day_first=day_first,
        whole=False,
    )
    log, ratings = coded.log, coded.ratings
    # 103.0 and 103 may be one user, so both go to one bucket.
    buckets = _user_buckets(without_decimals(log.user_ids).to_list(), job.parts)
    order = counting_order(buckets[log.users])
    arrays = {"users": log.users, "items": log.items}
    if log.times is not None:
        arrays["times"] = log.times
    if options.min_rating is not None and ratings is not None:
        arrays["wanted"] = ratings >= options.min_rating
    arrays = {name: array[order] for name, array in arrays.items()}
    arrays["starts"] = range_starts(buckets[log.users][order], job.parts)
    folder.write_arrays(step, piece, arrays)
    by_bucket = counting_order(buckets)
    ids = log.user_ids.gather(by_bucket).to_arrow().cast(pa.large_string())
    users = pa.table({"user_id": ids, "code": pa.array(by_bucket.astype(np.int32))})
    folder.write_batches(step, piece, users, range_starts(buckets[by_bucket], job.parts))
    items = pa.table({"item_id": log.item_ids.to_arrow().cast(pa.large_string())})
    folder.write_batches(f"{step}-items", piece, items, np.array([0, items.num_rows]))
    records = [*source.findings, *findings.records]
    return {
        "rows": rows,
        "events": len(log),
        "times": _time_facts(coded.times),
        "users": _id_facts(log.user_ids),
        "rated": ratings is not None,
        "unrated": 0 if ratings is None else int(np.isnan(ratings).sum()),
        "names": source.names.by_role() if source.names is not None else None,
        "findings": [record for record in records if record["kind"] not in _LATER],
        "source": source_records("log", (file,), str(file), rows, source.reading)[0],
    }


def _time_facts(times: Times | None) -> dict[str, Any] | None:
    """Returns the facts on which all files of a log must agree."""
    if times is None:
        return None
    return {
        "spelling": times.spelling,
        "dates": times.dates,
        "numbers": int((~times.missing).sum()) - times.dates,
        "first": None if times.order is None else times.order.first,
        "undecided": None if times.order is None else times.order.undecided,
    }


def _id_facts(labels: pl.Series) -> dict[str, bool]:
    """Returns whether the ids are integers, and whether some have decimals; see `codes.have_decimals`."""
    return {"integers": are_integers(labels), "decimals": count_decimals(labels) > 0}


def _user_buckets(ids: list[str], count: int) -> np.ndarray:
    """Returns [users] int32: the bucket of each user, the same in every process."""
    return np.array([zlib.crc32(i.encode("utf-8", "surrogatepass")) % count for i in ids], np.int32)
