"""`recommend` for many users in shares: one Parquet file a shard, and the folder of all as one table.

OUT/lists-<i>-of-<n>.parquet   user_id, rank (from 1), item_id, title, score; users in the given order
OUT/_manifest.json             how the lists were made; written when all shards exist
"""

from __future__ import annotations

import functools
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import pyarrow as pa
import pyarrow.parquet as pq

from seqloom.core.batching import LIST_LIMITS
from seqloom.core.config import Config
from seqloom.core.damage import reading
from seqloom.core.errors import ArtefactError
from seqloom.core.files import atomic_file, read_json, sha256_text, write_json
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import merge_options, public_function
from seqloom.core.locks import writing
from seqloom.core.progress import SILENT, Progress
from seqloom.data.given_ids import match_ids
from seqloom.data.store import Dataset
from seqloom.jobs import JobRunner
from seqloom.jobs.shards import Shard, every_shard
from seqloom.pipelines.recommend.recommend import recommend
from seqloom.pipelines.recommend.user_file import read_users
from seqloom.runs.ann_scorer import ApproximateScorer, approximate_scorer
from seqloom.runs.folder import Run, load_run
from seqloom.runs.recommendations import Recommendation

MANIFEST = "_manifest.json"
"""Readers of a folder of Parquet files pass over names that begin with an underscore."""
_SCHEMA = pa.schema(
    {
        "user_id": pa.large_string(),
        "rank": pa.int32(),
        "item_id": pa.dictionary(pa.int32(), pa.large_string()),
        "title": pa.dictionary(pa.int32(), pa.large_string()),
        "score": pa.float64(),
    }
)


class ListsJob(Config):
    """A job: lists of which length, for which users, by which run."""

    run: str
    """The folder of the run."""
    out: str
    """The folder of the lists."""
    users: str | None = None
    """A file with one user id a line; None means every user of the data set."""
    k: int = 10
    """Items for each user."""
    mask_seen: bool | None = None
    """Whether items that the user has seen are left out; by default as the run was trained."""

    def masks(self, run: Run) -> bool:
        """Whether items that the user has seen are left out of the lists of this run."""
        return run.manifest.mask_seen if self.mask_seen is None else self.mask_seen

    dataset: str | None = None
    """Where the run's data set is now, if it is not where it was trained."""
    approximate: bool = False
    """Whether an index of the items is searched and not all of them."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, ..."""


class ListsKeywords(TypedDict, total=False):
    """The fields of `ListsJob` as keywords."""

    run: str
    out: str
    users: str | None
    k: int
    mask_seen: bool | None
    dataset: str | None
    approximate: bool
    device: str


class ListsShard(Config):
    """The header of a shard's file."""

    version: int = 1
    key: str
    """Hash of the run, the data set, the users and the options."""
    shard: str
    """`i/n`."""
    users: int
    """Users of this shard; some may have an empty list, and then have no row."""
    recall: float | None = None
    """Measured recall of an approximate search; None where all items are scored."""


class ListsManifest(Config):
    """The manifest of a complete folder of lists."""

    format: str = "seqloom-lists"
    version: int = 1
    seqloom: str
    """Version of seqloom that completed it."""
    run: str
    """The folder of the run, as given."""
    weights_sha256: str
    dataset: str
    """Fingerprint of the data set whose stored histories were read."""
    k: int
    mask_seen: bool
    recall: float | None = None
    """Of an approximate search, measured on a sample; None where all items were scored."""
    key: str
    shards: int
    users: int
    rows: int


class ListsSummary(Config):
    """The result of a call."""

    out: str
    shards: int
    """Requested shards that are complete after the call."""
    users: int
    rows: int
    reused: int
    """Shards of these that existed before the call."""


@dataclass(frozen=True)
class OpenedJob:
    """The opened run, data set and users of a job."""

    run: Run
    data: Dataset
    users: list[str]
    key: str


def open_job(job: ListsJob) -> OpenedJob:
    """Loads the run, the data set and the users.

    Raises:
        SeqloomError: one of them is missing or damaged, or the data set is not the run's.
    """
    run = load_run(job.run, device=job.device)
    data = run.dataset(job.dataset)
    users = data.user_ids
    if job.users is not None:
        users = match_ids(read_users(Path(job.users)), data.user_numbers)
    options = {"k": job.k, "mask_seen": job.masks(run), "files": run.manifest.files}
    if job.approximate:
        options["approximate"] = True
    key = sha256_text(
        run.manifest.weights_sha256, data.fingerprint, json.dumps(options, sort_keys=True), *users
    )
    return OpenedJob(run, data, users, key)


def recommend_shard(
    job: ListsJob,
    shard: Shard,
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
    opened: OpenedJob | None = None,
) -> ListsSummary:
    """Writes the lists of one shard's users as one file. Does nothing if the file exists.

    Lists do not depend on the number of shards: users are ranked in the same blocks.

    Raises:
        DataError: a user is not in the data set.
        ArtefactError: the file exists and holds other lists, and `overwrite` is false.
    """
    opened = opened or open_job(job)
    with writing(Path(job.out) / f"lists-{shard.label}.parquet"):
        return _make_shard(job, shard, opened, progress, overwrite=overwrite)


def _make_shard(
    job: ListsJob, shard: Shard, opened: OpenedJob, progress: Progress, *, overwrite: bool
) -> ListsSummary:
    """As `recommend_shard`, without its lock: a runner may run a piece twice at a time."""
    file = Path(job.out) / f"lists-{shard.label}.parquet"
    header = _read_header(file)
    if header is not None and header.key == opened.key:
        rows = pq.read_metadata(file).num_rows
        return ListsSummary(out=job.out, shards=1, users=header.users, rows=rows, reused=1)
    if file.exists() and not overwrite:
        raise ArtefactError(
            f"{file} holds lists of another run, other users or other options, or is damaged; "
            f"choose another --out, or ask to --overwrite it"
        )
    if job.approximate and not isinstance(opened.run.scorer, ApproximateScorer):
        opened.run.scorer = approximate_scorer(opened.run, dataset=opened.data, progress=progress)
    recall = getattr(opened.run.scorer, "recall", None)
    mine = shard.of(len(opened.users), LIST_LIMITS.rows)
    chosen = opened.users[mine.start : mine.stop]
    lists = recommend(
        opened.run,
        users=chosen,
        k=job.k,
        mask_seen=job.masks(opened.run),
        dataset=opened.data,
        progress=progress,
    )
    header = ListsShard(
        key=opened.key,
        shard=str(shard),
        users=len(chosen),
        recall=recall.recall if recall else None,
    )
    table = _table(lists).replace_schema_metadata({"seqloom": header.model_dump_json()})
    with atomic_file(file) as work:
        pq.write_table(table, work)
    return ListsSummary(out=job.out, shards=1, users=len(chosen), rows=table.num_rows, reused=0)


def merge_lists(job: ListsJob) -> ListsSummary:
    """Checks that all shards exist, and writes the manifest.

    Raises:
        ArtefactError: shards are missing or damaged (names them), or are of different jobs.
    """
    from seqloom._version import __version__

    opened = open_job(job)
    key = opened.key
    files = sorted(Path(job.out).glob("lists-*.parquet"))
    headers = {file: _read_header(file) for file in files}
    mine = [one for one in headers.values() if one is not None and one.key == key]
    foreign = [file.name for file, one in headers.items() if one is None or one.key != key]
    if foreign:
        raise ArtefactError(
            f"{job.out} holds files that are damaged or of another job ({', '.join(foreign[:5])}); "
            f"delete them, or choose another --out"
        )
    counts = {Shard.parse(one.shard).count for one in mine}
    if len(counts) != 1:
        raise ArtefactError(
            f"{job.out} holds shards of {len(counts)} divisions; keep one, and make its shards with "
            f"`seqloom recommend ... --out {job.out} --shard i/n`"
        )
    count = counts.pop()
    there = {Shard.parse(one.shard).index for one in mine}
    missing = [str(shard) for shard in every_shard(count) if shard.index not in there]
    if missing:
        raise ArtefactError(
            f"{len(missing)} of {count} shards are missing in {job.out}: {', '.join(missing[:8])}; "
            f"make each with --shard i/n"
        )
    done = sum(one.users for one in mine)
    assert done == len(opened.users), (done, len(opened.users))
    rows = sum(pq.read_metadata(file).num_rows for file in files)
    manifest = ListsManifest(
        seqloom=__version__,
        run=job.run,
        weights_sha256=opened.run.manifest.weights_sha256,
        dataset=opened.data.fingerprint,
        k=job.k,
        mask_seen=job.masks(opened.run),
        recall=mine[0].recall,
        key=key,
        shards=count,
        users=done,
        rows=rows,
    )
    write_json(Path(job.out) / MANIFEST, manifest.model_dump(mode="json"), sealed=True)
    return ListsSummary(out=job.out, shards=count, users=done, rows=rows, reused=count)


def open_lists(out: str | Path) -> tuple[ListsManifest, pa.Table]:
    """Reads a complete folder of lists: its manifest, and all rows in the order of the users.

    Raises:
        ArtefactError: it is not complete, or a file is damaged.
    """
    out = Path(out)
    raw = read_json(out / MANIFEST, "complete folder of lists (see --merge)")
    with reading(out / MANIFEST, "the manifest of lists", "make the lists again"):
        manifest = ListsManifest.build(raw)
    files = [out / f"lists-{shard.label}.parquet" for shard in every_shard(manifest.shards)]
    for file in files:
        header = _read_header(file)
        if header is None or header.key != manifest.key:
            raise ArtefactError(f"{file} is missing, damaged or of another job; make it again")
    tables = []
    for file in files:
        with reading(file, "lists of recommendations", "make it again"):
            tables.append(pq.read_table(file))
    return manifest, pa.concat_tables(tables)


@public_function(ListsJob, parameter="job")
def recommend_by(
    runner: JobRunner,
    job: ListsJob | None = None,
    *,
    shards: int | None = None,
    overwrite: bool = False,
    progress: Progress = AUTO,
    **keywords: Unpack[ListsKeywords],
) -> ListsSummary:
    """Makes all shards by a runner, then the manifest. `shards` is their number; by default four a slot.

    The fields of the job (`run`, `out`, `users`, `k`, ...) are keywords too.

    Raises:
        SeqloomError: as `recommend_shard`, `merge_lists` and `JobRunner.run`.
    """
    job = merge_options(ListsJob, job, keywords)
    job = job.model_copy(
        update={
            name: str(Path(value).resolve())
            for name in ("run", "out", "users", "dataset")
            if (value := getattr(job, name)) is not None
        }
    )
    count = shards or 4 * runner.slots()
    number = secrets.token_hex(8)
    work = functools.partial(_piece, number, job.model_dump(), count, overwrite)
    with writing(job.out):
        reused = runner.run(work, range(count), name="recommend", progress=progress)
        done = merge_lists(job)
    return done.model_copy(update={"reused": sum(reused)})


def _piece(number: str, values: dict[str, Any], count: int, overwrite: bool, index: int) -> int:
    job = ListsJob.build(values)
    opened = _open_once(number, job)
    return _make_shard(job, Shard(index, count), opened, SILENT, overwrite=overwrite).reused


@functools.lru_cache(maxsize=1)
def _open_once(number: str, job: ListsJob) -> OpenedJob:
    """Opens a job one time in each worker: loading a run may take longer than a shard."""
    return open_job(job)


def _read_header(file: Path) -> ListsShard | None:
    """Reads the header of a complete shard; None where it is missing or damaged."""
    try:
        metadata = pq.read_schema(file).metadata or {}
        return ListsShard.model_validate_json(metadata[b"seqloom"])
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None


def _table(lists: Sequence[Recommendation]) -> pa.Table:
    rows = [
        (entry.user, rank, item.item_id, item.title, item.score)
        for entry in lists
        for rank, item in enumerate(entry.items, start=1)
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(_SCHEMA)
    arrays = [
        pa.array(values, field.type.value_type).dictionary_encode()
        if pa.types.is_dictionary(field.type)
        else pa.array(values, field.type)
        for values, field in zip(columns, _SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=_SCHEMA)
