"""The folder of a job: its description, the files between the steps, and the results of finished steps."""

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
from seqloom.pipelines.prepare.options import PrepareOptions

_FORMATS = ("parquet", "csv", "jsonl", "sequences")
_SUFFIXES = {
    "csv": (".csv", ".tsv"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "sequences": (".txt", ".dat", ".seq", ".tsv"),
}
_TYPES = {"BOOL": np.bool_, "I32": np.int32, "I64": np.int64}


class Job(Config):
    """The description of a job, which every step reads."""

    files: list[str]
    """The files of the log, in order."""
    sizes: list[int]
    """Bytes of each file, so that a changed log is another job."""
    format: str
    """The format of all files."""
    options: PrepareOptions
    """The options of `prepare`."""
    parts: int
    """Number of parts of the data set, and of buckets of users."""


def find_files(log: Path, options: PrepareOptions) -> tuple[str, list[Path]]:
    """Finds the files of a log (one file, or those of a folder sorted by name) and their format.

    Raises:
        DataError: there are no files, the format is not one of `_FORMATS`, or the files differ in format.
    """
    if not log.exists():
        raise DataError(f"{log} does not exist; check the path")
    files = [log]
    if log.is_dir():
        names = sorted(f for f in log.iterdir() if f.is_file() and f.name[0] not in "._")
        if not names:
            raise DataError(f"{log} holds no files; check the path")
        files = list(parquet_files(log)) if any(log.glob("*.parquet")) else names
    chosen = detect_format(files[0]) if options.format == "auto" else options.format
    if chosen not in _FORMATS:
        raise DataError(
            f"{log} is of format {chosen}, but an engine reads only {', '.join(_FORMATS)}: convert it, or "
            f"prepare it without an engine"
        )
    for file in files:
        if chosen in _SUFFIXES and log.is_dir() and suffix(file) not in _SUFFIXES[chosen]:
            raise DataError(
                f"{log} is read as a folder of {chosen} files, but holds {file.name}; move that file to "
                f"another folder, or set format"
            )
    return chosen, files


class JobFolder:
    """The folder of a job."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def job(self) -> Job:
        """Reads the description of the job."""
        return Job.build(read_json(self.path / "job.json", "folder of a job"))

    def begin(self, job: Job) -> bool:
        """Stores the description of the job; returns whether the folder holds the same job, unfinished."""
        file = self.path / "job.json"
        record = job.model_dump(mode="json")
        if file.exists() and json.loads(file.read_text(encoding="utf-8")) == record:
            return True
        write_json(file, record)
        return False

    def file(self, step: str, piece: int, kind: str) -> Path:
        """Returns the path of a file of a step."""
        return self.path / step / f"{piece:05d}.{kind}"

    def run_step(
        self, step: str, piece: int, work: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Runs a step on a piece, unless that is done already, and returns its result."""
        done = self.file(step, piece, "json")
        if not done.exists():
            write_json(done, dict(work()))
        result: dict[str, Any] = read_json(done, "step of a job")
        return result

    def results(self, step: str, count: int) -> list[dict[str, Any]]:
        """Reads the results of a finished step on `count` pieces."""
        return [
            read_json(self.file(step, piece, "json"), "step of a job") for piece in range(count)
        ]

    def write_arrays(self, step: str, piece: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Stores arrays by name."""
        with atomic_file(self.file(step, piece, "safetensors")) as work:
            tensors = {
                name: torch.from_numpy(np.require(a, requirements=["C", "W"]))
                for name, a in arrays.items()
            }
            write_tensors(work, tensors)

    def arrays(
        self, step: str, piece: int, names: tuple[str, ...] | None = None
    ) -> dict[str, np.ndarray]:
        """Reads the arrays of a step, or some of them."""
        with safe_open(self.file(step, piece, "safetensors"), framework="np") as handle:
            return {name: handle.get_tensor(name) for name in names or handle.keys()}

    def ranges(
        self, step: str, count: int, which: int, names: tuple[str, ...], starts: str
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields, for each of `count` pieces, the entries of the range `which`, from `starts[which]` on."""
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
        """Stores a table so that each of its ranges can be read separately."""
        with (
            atomic_file(self.file(step, piece, "arrow")) as work,
            pa.ipc.new_file(work, table.schema) as out,
        ):
            for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
                rows = table.slice(first, last - first).combine_chunks()
                batches = rows.to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
                out.write_batch(batches[0])

    def batches(self, step: str, count: int, which: int) -> Iterator[pl.DataFrame]:
        """Yields the range `which` of the table of each of `count` pieces."""
        for piece in range(count):
            with (
                pa.memory_map(str(self.file(step, piece, "arrow"))) as source,
                pa.ipc.open_file(source) as table,
            ):
                frame = pl.from_arrow(table.get_batch(which))
                assert isinstance(frame, pl.DataFrame)
                yield frame.clone()

    def table(self, step: str, piece: int) -> pl.DataFrame:
        """Reads a table that was stored as one range."""
        with (
            pa.memory_map(str(self.file(step, piece, "arrow"))) as source,
            pa.ipc.open_file(source) as table,
        ):
            frame = pl.from_arrow(table.get_batch(0))
            assert isinstance(frame, pl.DataFrame)
            return frame.clone()


def range_starts(keys: np.ndarray, count: int) -> np.ndarray:
    """Returns [count + 1], where each of `count` ranges begins in sorted `keys` from 0 to count - 1."""
    return np.searchsorted(keys, np.arange(count + 1)).astype(np.int64)
