"""`prepare` by an engine: the order of the steps, and what is decided between them."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from seqloom.core.errors import ArtefactError, DataError
from seqloom.core.files import atomic_folder, sole_writer
from seqloom.core.progress import SILENT, Progress
from seqloom.core.records import record_files
from seqloom.data.assemble import tell_decimals
from seqloom.data.checks import Findings, check_ids, tell_mixed
from seqloom.data.codes import count_decimals, have_decimals, without_decimals
from seqloom.data.parts import PartRecord, fingerprint_parts, part_files, training_parts
from seqloom.data.sources.base import Names, Source
from seqloom.data.store import PARTS_VERSION, Dataset, Manifest, write_dataset_manifest
from seqloom.jobs import JobRunner
from seqloom.pipelines.prepare.out_of_core.filtering import count_items, scatter_bucket
from seqloom.pipelines.prepare.out_of_core.findings import Told, tell_found
from seqloom.pipelines.prepare.out_of_core.gathering import gather_bucket
from seqloom.pipelines.prepare.out_of_core.job import Folder, Job, find_files
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
    PrepareOptions,
    catalogue,
    items_table,
    no_ratings,
    nothing_left,
    quoting,
    table_records,
)
from seqloom.pipelines.prepare.split_options import tell_split

_BYTES_A_PART = 256 << 20


def prepare_by(
    engine: JobRunner,
    log: str | Path,
    out: str | Path,
    *,
    items: Any = None,
    options: PrepareOptions | None = None,
    parts: int | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Dataset:
    """Prepare a log of many files with an engine; ids, events and split are those of `prepare`.

    Files of a folder follow each other in the order of their names. `parts` is the number of parts
    of the data set; by default one for each 256 MiB of the log, and one a slot at least. Work lies
    beside `out` until the end: the same call goes on where a killed one stopped. The items' ids and
    texts must fit in the memory of one process, events and users need not.

    Raises:
        DataError: the input cannot be read, or nothing is left after filtering.
        ArtefactError: `out` exists and `overwrite` is false.
        EngineError: as `JobRunner.run`.
    """
    options = options or PrepareOptions()
    out = Path(out).resolve()
    if out.exists() and not overwrite:
        raise ArtefactError(f"{out} already exists; choose another name or ask to overwrite it")
    form, files = find_files(Path(log).resolve(), options)
    sizes = [file.stat().st_size for file in files]
    job = Job(
        files=[str(file) for file in files],
        sizes=sizes,
        format=form,
        options=options,
        parts=parts or max(engine.slots(), -(-sum(sizes) // _BYTES_A_PART)),
    )
    driver = _Driver(engine, job, str(log), out, items, overwrite, progress)
    with sole_writer(out, progress):
        try:
            return driver.run()
        except DataError:
            # What was read is not what is wanted: nothing of it is worth going on with.
            shutil.rmtree(driver.folder.path, ignore_errors=True)
            raise


class _Driver:
    """One call of `prepare_by`."""

    def __init__(
        self,
        engine: JobRunner,
        job: Job,
        name: str,
        out: Path,
        items: Any,
        overwrite: bool,
        progress: Progress,
    ) -> None:
        self.engine, self.job, self.options = engine, job, job.options
        self.name, self.out, self.items = name, out, items
        self.overwrite, self.progress = overwrite, progress
        self.findings = Findings(progress)
        self._decimals = 0
        """Items whose ids are read without their decimals."""
        self.folder = Folder(out.parent / f".{out.name}.parts")

    def run(self) -> Dataset:
        """All steps in their order."""
        self._begin()
        step, told = self._read()
        all_items = self._number_items(step)
        users = [one["users"] for one in told]
        decimals = all(one["integers"] for one in users) and any(one["decimals"] for one in users)
        gathered = self._each(gather_bucket, step, len(all_items), decimals)
        self._tell(told, all_items, gathered)
        removed = self._removed(gathered)
        core, kept = self._core(len(all_items), removed)
        ids = Planner(self.job, self.folder, self._each).plan(core, kept, all_items)
        self._each(scatter_bucket, core)
        written = self._each(write_range)
        dataset = self._finish(told, gathered, written, ids, all_items, removed)
        shutil.rmtree(self.folder.path, ignore_errors=True)
        return dataset

    def _begin(self) -> None:
        if self.folder.path.exists():
            if self.folder.begin(self.job):
                self.progress.note(f"going on with the work in {self.folder.path}")
                return
            self.progress.warn(
                f"{self.folder.path} holds work of another job, which is thrown away"
            )
            shutil.rmtree(self.folder.path)
        self.folder.begin(self.job)

    def _each(
        self, work: Callable[..., Any], *arguments: Any, count: int | None = None
    ) -> list[dict[str, Any]]:
        """A step on every bucket, or on `count` pieces."""
        made = functools.partial(work, str(self.folder.path), *arguments)
        name = work.__name__.replace("_", " ")
        return self.engine.run(
            made, range(count or self.job.parts), name=name, progress=self.progress
        )

    def _read(self) -> tuple[str, list[dict[str, Any]]]:
        """Read all files; again where the others decide how a file's times are to be read."""
        count = len(self.job.files)
        unit, day_first = self.options.timestamp_unit, None
        step = "read"
        told = self._each(read_piece, step, unit, day_first, count=count)
        agreed = agree_on_times([one["times"] for one in told], unit, self.name)
        if agreed != (unit, day_first):
            step = f"read-{agreed[0]}{'-day' if agreed[1] else ''}"
            told = self._each(read_piece, step, *agreed, count=count)
        if len({one["rated"] for one in told}) > 1:
            raise DataError(f"some files of {self.name} have a rating column, others have none")
        if self.options.min_rating is not None and not told[0]["rated"]:
            raise no_ratings(self.name)
        names = told[0]["names"]
        known = ", ".join(f"{role}={own!r}" for role, own in (names or {}).items())
        self.progress.note(f"read {count} files of {self.name} as {self.job.format}: {known}")
        for file, one in zip(self.job.files, told, strict=True):
            if how := quoting(one["source"].get("reading")):
                self.progress.note(f"read {file} with{how.removeprefix(',')}")
        return step, told

    def _number_items(self, step: str) -> pl.Series:
        """The ids of all items by their first appearance; leaves each file's numbers of its items."""
        count = len(self.job.files)
        own = [self.folder.table(f"{step}-items", file)["item_id"] for file in range(count)]
        written = pl.concat(own).unique()
        if have_decimals(written):
            self._decimals = count_decimals(written)
            own = [without_decimals(mine) for mine in own]
        ids = pl.concat(own).unique(maintain_order=True)
        numbers = pl.DataFrame({"item_id": ids, "number": np.arange(len(ids), dtype=np.int32)})
        for file, mine in enumerate(own):
            joined = mine.to_frame().join(numbers, on="item_id", how="left", maintain_order="left")
            self.folder.write_arrays("items", file, {"numbers": joined["number"].to_numpy()})
        return ids

    def _tell(
        self, told: list[dict[str, Any]], all_items: pl.Series, gathered: list[dict[str, Any]]
    ) -> None:
        of_items = Findings()
        check_ids("item", all_items, of_items)
        decimals, mixed = Findings(), Findings()
        tell_decimals("user", sum(one["decimals"] for one in gathered), decimals)
        tell_decimals("item", self._decimals, decimals)
        times = [one["times"] for one in told if one["times"] is not None]
        both = (sum(one["dates"] for one in times), sum(one["numbers"] for one in times))
        tell_mixed(min(both), mixed)
        tell_found(
            Told(
                files=[
                    (file, one["findings"]) for file, one in zip(self.job.files, told, strict=True)
                ],
                users=[one["findings"] for one in gathered],
                items=of_items.records,
                mixed=mixed.records,
                decimals=decimals.records,
                unrated=sum(one["unrated"] for one in told)
                if self.options.min_rating is not None
                else 0,
                untimed=told[0]["times"] is None and self.job.format != "sequences",
                repeats=sum(one["repeats"] for one in gathered),
            ),
            self.name,
            self.findings,
        )

    def _removed(self, gathered: list[dict[str, Any]]) -> dict[str, int]:
        """What minimum rating and repeats took away."""
        removed: dict[str, int] = {}
        totals = {key: sum(one["counts"][key] for one in gathered) for key in gathered[0]["counts"]}
        before, counts = totals.pop("read"), []
        counts.append(f"{before:,} events read")
        for step, left in totals.items():
            counts.append(f"{left:,} after {step}")
            if left == 0:
                raise nothing_left(self.name, counts, self.options)
            if step == "min_rating" or left < before:
                removed[step] = before - left
            before = left
        self._counts, self._left = counts, before
        return removed

    def _core(self, num_items: int, removed: dict[str, int]) -> tuple[str, np.ndarray]:
        """Rounds until no item has too few events; the last round's name and [items] kept events."""
        alive = np.ones(num_items, np.bool_)
        number = 0
        while True:
            step = f"core-{number:03d}"
            if not self.folder.file(f"{step}-alive", 0, "safetensors").exists():
                self.folder.write_arrays(f"{step}-alive", 0, {"alive": alive})
            told = self._each(count_items, step)
            counts = sum(
                self.folder.arrays(step, piece)["counts"] for piece in range(self.job.parts)
            )
            assert isinstance(counts, np.ndarray)
            enough = counts >= self.options.core[1]
            if not (alive & ~enough & (counts > 0)).any():
                break
            alive &= enough
            number += 1
        left = sum(one["events"] for one in told)
        if left == 0:
            self._counts.append("0 after k-core")
            raise nothing_left(self.name, self._counts, self.options)
        if left < self._left:
            removed["k-core"] = self._left - left
        return step, counts

    def _finish(
        self,
        told: list[dict[str, Any]],
        gathered: list[dict[str, Any]],
        written: list[dict[str, Any]],
        ids: pl.Series,
        all_items: pl.Series,
        removed: dict[str, int],
    ) -> Dataset:
        """Items, statistics and manifest around the parts; then the folder appears at its place."""
        from seqloom import __version__

        counts = stored_counts(self.folder, written)
        facts = tell_split(counts, stored_plan(self.folder), self.options, self.findings)
        source = Source(self.job.format, self.name, {}, _names(told[0]["names"]))
        table = items_table(source, self.items, self.options, self.progress)
        rows, without_text = catalogue(ids, all_items, table, self.options, self.findings)
        records = [PartRecord.build(one["record"]) for one in written]
        sources = [one["source"] for one in told]
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
                    "rows": sum(one["rows"] for one in told),
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
                # Linked, not moved: a call that dies here goes on from the same files.
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
    """The columns of the log, as its first file names them."""
    if roles is None:
        return None
    return Names(roles["user_id"], roles["item_id"], roles.get("timestamp"), roles.get("rating"))
