"""Runs the steps of an out-of-core `prepare` in order, and makes the decisions between them."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from seqloom.core.errors import ArtefactError, DataError
from seqloom.core.files import atomic_folder, sole_writer
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import merge_options, public_function
from seqloom.core.progress import Progress
from seqloom.core.records import record_files
from seqloom.data.assemble import report_decimals
from seqloom.data.checks import Findings, check_ids, report_mixed_times
from seqloom.data.codes import count_decimals, have_decimals, without_decimals
from seqloom.data.parts import PartRecord, fingerprint_parts, part_files, training_parts
from seqloom.data.sources.base import Names, Source
from seqloom.data.sources.precheck import precheck
from seqloom.data.store import PARTS_VERSION, Dataset, Manifest, write_dataset_manifest
from seqloom.data.tie_keys import tie_keys
from seqloom.jobs import JobRunner
from seqloom.pipelines.prepare.options import PrepareKeywords, PrepareOptions
from seqloom.pipelines.prepare.out_of_core.filtering import count_items, scatter_bucket
from seqloom.pipelines.prepare.out_of_core.findings import LogFindings, report_findings
from seqloom.pipelines.prepare.out_of_core.gathering import gather_bucket
from seqloom.pipelines.prepare.out_of_core.job import Job, JobFolder, find_files
from seqloom.pipelines.prepare.out_of_core.planning import Planner
from seqloom.pipelines.prepare.out_of_core.reading import read_piece
from seqloom.pipelines.prepare.out_of_core.times import agree_on_times
from seqloom.pipelines.prepare.out_of_core.writing import (
    stored_counts,
    stored_plan,
    stored_tally,
    write_range,
)
from seqloom.pipelines.prepare.prepare import (
    build_catalogue,
    describe_quoting,
    load_items_table,
    no_ratings_error,
    nothing_left_error,
    table_records,
)
from seqloom.pipelines.prepare.split_options import report_split

_BYTES_A_PART = 256 << 20


@public_function(PrepareOptions)
def prepare_out_of_core(
    runner: JobRunner,
    log: str | Path,
    out: str | Path,
    *,
    items: Any = None,
    options: PrepareOptions | None = None,
    parts: int | None = None,
    overwrite: bool = False,
    progress: Progress = AUTO,
    **keywords: Unpack[PrepareKeywords],
) -> Dataset:
    """Prepares a log of many files with a runner; ids, events and split are those of `prepare`.

    The files of a folder are read in the order of their names. `parts` is the number of parts of the
    data set; by default one per 256 MiB of the log, and at least one per slot. Unfinished work is kept
    beside `out`: the same call resumes it. The items' ids and texts must fit in the memory of one
    process, events and users need not. The fields of `PrepareOptions` are keywords too.

    Raises:
        DataError: the input cannot be read, or no event is left after filtering.
        ArtefactError: `out` exists and `overwrite` is false.
        EngineError: as `JobRunner.run`.
    """
    options = merge_options(PrepareOptions, options, keywords)
    out = Path(out).resolve()
    if out.exists() and not overwrite:
        raise ArtefactError(f"{out} already exists; choose another name, or overwrite it")
    precheck(None, items, options)
    form, files = find_files(Path(log).resolve(), options)
    sizes = [file.stat().st_size for file in files]
    job = Job(
        files=[str(file) for file in files],
        sizes=sizes,
        format=form,
        options=options,
        parts=parts or max(runner.slots(), -(-sum(sizes) // _BYTES_A_PART)),
    )
    driver = _Driver(runner, job, str(log), out, items, overwrite, progress)
    with sole_writer(out, progress):
        try:
            return driver.run()
        except DataError:
            # The input has to change first, so the unfinished work is of no use.
            shutil.rmtree(driver.folder.path, ignore_errors=True)
            raise


class _Driver:
    """One call of `prepare_out_of_core`."""

    def __init__(
        self,
        runner: JobRunner,
        job: Job,
        name: str,
        out: Path,
        items: Any,
        overwrite: bool,
        progress: Progress,
    ) -> None:
        self.runner, self.job, self.options = runner, job, job.options
        self.name, self.out, self.items = name, out, items
        self.overwrite, self.progress = overwrite, progress
        self.findings = Findings(progress)
        self._decimals = 0
        """Number of items whose ids are read without their decimals."""
        self.folder = JobFolder(out.parent / f".{out.name}.parts")

    def run(self) -> Dataset:
        """Runs all steps in order."""
        self._begin()
        step, files = self._read()
        all_items = self._number_items(step)
        users = [one["users"] for one in files]
        decimals = all(one["integers"] for one in users) and any(one["decimals"] for one in users)
        gathered = self._each(gather_bucket, step, len(all_items), decimals)
        self._report(files, all_items, gathered)
        removed = self._removed(gathered)
        core, kept = self._core(len(all_items), removed)
        ids = Planner(self.job, self.folder, self._each).plan(core, kept, all_items)
        self._each(scatter_bucket, core)
        written = self._each(write_range)
        dataset = self._finish(files, gathered, written, ids, all_items, removed)
        shutil.rmtree(self.folder.path, ignore_errors=True)
        return dataset

    def _begin(self) -> None:
        if self.folder.path.exists():
            if self.folder.begin(self.job):
                self.progress.note(f"resuming the unfinished work in {self.folder.path}")
                return
            self.progress.warn(
                f"{self.folder.path} holds unfinished work of another job, which is deleted"
            )
            shutil.rmtree(self.folder.path)
        self.folder.begin(self.job)

    def _each(
        self, work: Callable[..., Any], *arguments: Any, count: int | None = None
    ) -> list[dict[str, Any]]:
        """Runs a step on every bucket, or on `count` pieces."""
        task = functools.partial(work, str(self.folder.path), *arguments)
        name = work.__name__.replace("_", " ")
        return self.runner.run(
            task, range(count or self.job.parts), name=name, progress=self.progress
        )

    def _read(self) -> tuple[str, list[dict[str, Any]]]:
        """Reads all files, and reads them again if they do not agree on the format of their times."""
        count = len(self.job.files)
        unit, day_first = self.options.timestamp_unit, None
        step = "read"
        files = self._each(read_piece, step, unit, day_first, count=count)
        agreed = agree_on_times([one["times"] for one in files], unit, self.name)
        if agreed != (unit, day_first):
            step = f"read-{agreed[0]}{'-day' if agreed[1] else ''}"
            files = self._each(read_piece, step, *agreed, count=count)
        if len({one["rated"] for one in files}) > 1:
            raise DataError(
                f"some files of {self.name} have a rating column, others have none; give all files the same "
                "columns"
            )
        if self.options.min_rating is not None and not files[0]["rated"]:
            raise no_ratings_error(self.name)
        names = files[0]["names"]
        known = ", ".join(f"{role}={own!r}" for role, own in (names or {}).items())
        self.progress.note(f"read {count} files of {self.name} as {self.job.format}: {known}")
        for file, one in zip(self.job.files, files, strict=True):
            if how := describe_quoting(one["source"].get("reading")):
                self.progress.note(f"read {file} with{how.removeprefix(',')}")
        return step, files

    def _number_items(self, step: str) -> pl.Series:
        """Returns the ids of all items by first appearance; stores the numbers of each file's items."""
        count = len(self.job.files)
        own = [self.folder.table(f"{step}-items", file)["item_id"] for file in range(count)]
        written = pl.concat(own).unique()
        if have_decimals(written):
            self._decimals = count_decimals(written)
            own = [without_decimals(mine) for mine in own]
        ids = pl.concat(own).unique(maintain_order=True)
        if self.options.ties == "shuffle":
            self.folder.write_arrays("item-keys", 0, {"keys": tie_keys(ids.to_list()).numpy()})
        numbers = pl.DataFrame({"item_id": ids, "number": np.arange(len(ids), dtype=np.int32)})
        for file, mine in enumerate(own):
            joined = mine.to_frame().join(numbers, on="item_id", how="left", maintain_order="left")
            self.folder.write_arrays("items", file, {"numbers": joined["number"].to_numpy()})
        return ids

    def _report(
        self, files: list[dict[str, Any]], all_items: pl.Series, gathered: list[dict[str, Any]]
    ) -> None:
        of_items = Findings()
        check_ids("item", all_items, of_items)
        decimals, mixed = Findings(), Findings()
        report_decimals("user", sum(one["decimals"] for one in gathered), decimals)
        report_decimals("item", self._decimals, decimals)
        times = [one["times"] for one in files if one["times"] is not None]
        both = (sum(one["dates"] for one in times), sum(one["numbers"] for one in times))
        report_mixed_times(min(both), mixed)
        report_findings(
            LogFindings(
                files=[
                    (file, one["findings"]) for file, one in zip(self.job.files, files, strict=True)
                ],
                users=[one["findings"] for one in gathered],
                items=of_items.records,
                mixed=mixed.records,
                decimals=decimals.records,
                unrated=sum(one["unrated"] for one in files)
                if self.options.min_rating is not None
                else 0,
                untimed=files[0]["times"] is None and self.job.format != "sequences",
                repeats=sum(one["repeats"] for one in gathered),
            ),
            self.name,
            self.findings,
        )

    def _removed(self, gathered: list[dict[str, Any]]) -> dict[str, int]:
        """Counts the events that minimum rating and duplicates removed."""
        removed: dict[str, int] = {}
        totals = {key: sum(one["counts"][key] for one in gathered) for key in gathered[0]["counts"]}
        before, counts = totals.pop("read"), []
        counts.append(f"{before:,} events read")
        for step, left in totals.items():
            counts.append(f"{left:,} after {step}")
            if left == 0:
                raise nothing_left_error(self.name, counts, self.options)
            if step == "min_rating" or left < before:
                removed[step] = before - left
            before = left
        self._counts, self._left = counts, before
        return removed

    def _core(self, num_items: int, removed: dict[str, int]) -> tuple[str, np.ndarray]:
        """Runs rounds of the k-core until no item has too few events.

        Returns the name of the last round and [items] the kept events of each item.
        """
        alive = np.ones(num_items, np.bool_)
        number = 0
        while True:
            step = f"core-{number:03d}"
            if not self.folder.file(f"{step}-alive", 0, "safetensors").exists():
                self.folder.write_arrays(f"{step}-alive", 0, {"alive": alive})
            results = self._each(count_items, step)
            counts = sum(
                self.folder.arrays(step, piece)["counts"] for piece in range(self.job.parts)
            )
            assert isinstance(counts, np.ndarray)
            enough = counts >= self.options.core[1]
            if not (alive & ~enough & (counts > 0)).any():
                break
            alive &= enough
            number += 1
        left = sum(one["events"] for one in results)
        if left == 0:
            self._counts.append("0 after k-core")
            raise nothing_left_error(self.name, self._counts, self.options)
        if left < self._left:
            removed["k-core"] = self._left - left
        return step, counts

    def _finish(
        self,
        read: list[dict[str, Any]],
        gathered: list[dict[str, Any]],
        written: list[dict[str, Any]],
        ids: pl.Series,
        all_items: pl.Series,
        removed: dict[str, int],
    ) -> Dataset:
        """Adds items, statistics and manifest to the parts, and puts the folder in its place."""
        from seqloom._version import __version__

        counts = stored_counts(self.folder, written)
        facts = report_split(counts, stored_plan(self.folder), self.options, self.findings)
        source = Source(self.job.format, self.name, {}, _names(read[0]["names"]))
        table = load_items_table(source, self.items, self.options, self.progress)
        rows, without_text = build_catalogue(ids, all_items, table, self.options, self.findings)
        records = [PartRecord.build(one["record"]) for one in written]
        sources = [one["source"] for one in read]
        if table is not None:
            sources += table_records("items", table)
        work = self.folder.path / "dataset"
        manifest = Manifest(
            version=PARTS_VERSION,
            seqloom=__version__,
            sources=sources,
            options=self.options.model_dump(mode="json") | {"format": self.job.format},
            statistics={
                **stored_tally(self.folder, "write", written).facts(),
                "items": len(ids),
                "items_without_text": without_text,
                **facts,
                "removed": removed,
                "raw": {
                    "rows": sum(one["rows"] for one in read),
                    **stored_tally(self.folder, "gather-raw", gathered).facts(),
                },
            },
            warnings=self.findings.records,
            fingerprint=fingerprint_parts(ids.to_list(), work, records, facts.get("cold_items", 0)),
            training=training_parts(work, records),
            parts=records,
        )
        with atomic_folder(self.out, overwrite=self.overwrite) as place:
            for name in ("users", "events"):
                # Linked, not moved: if the process is killed here, the next call uses the same files.
                shutil.copytree(work / name, place / name, copy_function=_link)
            pq.write_table(rows, place / "items.parquet")
            files = record_files(place, ["items.parquet", *part_files(place, len(records))])
            write_dataset_manifest(place, manifest.model_copy(update={"files": files}))
        return Dataset.load(self.out)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _names(roles: dict[str, str] | None) -> Names | None:
    """Returns the columns of the log by the names in its first file."""
    if roles is None:
        return None
    return Names(roles["user_id"], roles["item_id"], roles.get("timestamp"), roles.get("rating"))
