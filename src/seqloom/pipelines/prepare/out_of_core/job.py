"""A job's folder: what is to be done, the files between the steps, and which steps are done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from safetensors import safe_open

from seqloom.core.config import Config
from seqloom.core.errors import DataError
from seqloom.core.files import atomic_file, read_json, write_json
from seqloom.core.tensors import write_tensors
from seqloom.data.sources.detect import detect_format
from seqloom.data.sources.files import suffix
from seqloom.data.sources.parquet import parquet_files
from seqloom.pipelines.prepare.prepare import PrepareOptions

FORMATS = ("parquet", "csv", "jsonl", "sequences")
_SUFFIXES = {
    "csv": (".csv", ".tsv"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "sequences": (".txt", ".dat", ".seq", ".tsv"),
}
_TYPES = {"BOOL": np.bool_, "I32": np.int32, "I64": np.int64}


class Job(Config):
    """What every step of a job has to know."""

    files: list[str]
    """The files of the log, in the order in which their rows follow each other."""
    sizes: list[int]
    """Bytes of each, so that a log that has changed is another job."""
    format: str
    """The format of every file."""
    options: PrepareOptions
    """The options of `prepare`."""
    parts: int
    """Parts of the data set, and buckets of users on the way to it."""


def find_files(log: Path, options: PrepareOptions) -> tuple[str, list[Path]]:
    """The format and the files of a log: one file, or a folder's files in the order of their names.

    Raises:
        DataError: nothing is there, the format is none of `FORMATS`, or the files are of several.
    """
    if not log.exists():
        raise DataError(f"{log} does not exist; check the path")
    files = [log]
    if log.is_dir():
        names = sorted(f for f in log.iterdir() if f.is_file() and f.name[0] not in "._")
        if not names:
            raise DataError(f"{log} holds no files")
        files = list(parquet_files(log)) if any(log.glob("*.parquet")) else names
    chosen = detect_format(files[0]) if options.format == "auto" else options.format
    if chosen not in FORMATS:
        raise DataError(
            f"{log} is of format {chosen}; an engine reads {', '.join(FORMATS)}: convert it, or "
            f"prepare it without an engine"
        )
    for file in files:
        if chosen in _SUFFIXES and log.is_dir() and suffix(file) not in _SUFFIXES[chosen]:
            raise DataError(
                f"{log} is read as a folder of {chosen} files, but holds {file.name}; move it away, or "
                f"set format"
            )
    return chosen, files


class JobFolder:
    """The folder of a job."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def job(self) -> Job:
        """What is to be done."""
        return Job.build(read_json(self.path / "job.json", "folder of a job"))

    def begin(self, job: Job) -> bool:
        """Write the job down; whether an unfinished job of the same kind was there."""
        file = self.path / "job.json"
        told = job.model_dump(mode="json")
        if file.exists() and json.loads(file.read_text(encoding="utf-8")) == told:
            return True
        write_json(file, told)
        return False

    def file(self, step: str, piece: int, kind: str) -> Path:
        """A file that a step leaves."""
        return self.path / step / f"{piece:05d}.{kind}"

    def run_step(
        self, step: str, piece: int, work: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """What a step told of a piece; the work is done if it has not been done before."""
        done = self.file(step, piece, "json")
        if not done.exists():
            write_json(done, dict(work()))
        told: dict[str, Any] = read_json(done, "step of a job")
        return told

    def results(self, step: str, count: int) -> list[dict[str, Any]]:
        """What a finished step told of each of `count` pieces."""
        return [
            read_json(self.file(step, piece, "json"), "step of a job") for piece in range(count)
        ]

    def write_arrays(self, step: str, piece: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep arrays by name."""
        with atomic_file(self.file(step, piece, "safetensors")) as work:
            tensors = {
                name: torch.from_numpy(np.require(a, requirements=["C", "W"]))
                for name, a in arrays.items()
            }
            write_tensors(work, tensors)

    def arrays(
        self, step: str, piece: int, names: tuple[str, ...] | None = None
    ) -> dict[str, np.ndarray]:
        """The arrays that a step kept, or some of them."""
        with safe_open(self.file(step, piece, "safetensors"), framework="np") as handle:
            return {name: handle.get_tensor(name) for name in names or handle.keys()}

    def ranges(
        self, step: str, count: int, which: int, names: tuple[str, ...], starts: str
    ) -> Iterator[dict[str, np.ndarray]]:
        """Of each of `count` pieces the entries of the range `which`, which begins at `starts[which]`."""
        for piece in range(count):
            with safe_open(self.file(step, piece, "safetensors"), framework="np") as handle:
                first, last = handle.get_slice(starts)[which : which + 2].tolist()
                slices = {name: handle.get_slice(name) for name in names}
                yield {
                    # The library refuses an empty slice at the end.
                    name: part[first:last]
                    if last > first
                    else np.empty(0, _TYPES[part.get_dtype()])
                    for name, part in slices.items()
                }

    def write_batches(self, step: str, piece: int, table: pa.Table, starts: np.ndarray) -> None:
        """Keep a table so that each of its ranges can be read alone."""
        with (
            atomic_file(self.file(step, piece, "arrow")) as work,
            pa.ipc.new_file(work, table.schema) as out,
        ):
            for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
                rows = table.slice(first, last - first).combine_chunks()
                batches = rows.to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
                out.write_batch(batches[0])

    def batches(self, step: str, count: int, which: int) -> Iterator[pl.DataFrame]:
        """The range `which` of the table of each of `count` pieces."""
        for piece in range(count):
            with (
                pa.memory_map(str(self.file(step, piece, "arrow"))) as source,
                pa.ipc.open_file(source) as table,
            ):
                frame = pl.from_arrow(table.get_batch(which))
                assert isinstance(frame, pl.DataFrame)
                yield frame.clone()

    def table(self, step: str, piece: int) -> pl.DataFrame:
        """A table that was kept as one range."""
        with (
            pa.memory_map(str(self.file(step, piece, "arrow"))) as source,
            pa.ipc.open_file(source) as table,
        ):
            frame = pl.from_arrow(table.get_batch(0))
            assert isinstance(frame, pl.DataFrame)
            return frame.clone()


def range_starts(keys: np.ndarray, count: int) -> np.ndarray:
    """[count + 1] where each of `count` ranges begins in sorted `keys` from 0 to count - 1."""
    return np.searchsorted(keys, np.arange(count + 1)).astype(np.int64)
