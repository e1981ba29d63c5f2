"""Jobs in pieces: overhead of the job runners over one process, and the delay after a killed worker."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.data import benchmark_dataset
from benchmarks.result import Measurement, Result
from seqloom.jobs import JobOptions, JobRunner, build_runner
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.embed_shards import embed_sharded
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.pipelines.prepare.out_of_core import prepare_out_of_core
from seqloom.pipelines.prepare.prepare import prepare

WORKERS = 2
EVENTS, FILES = 4_000_000, 8


def run(folder: Path) -> list[Result]:
    """Each driver after the plain run that it is compared with. Ray last: it keeps its processes."""
    folder = folder / "clusters"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    plain = {"embed": _embed_plain(folder), "prepare": _prepare_plain(folder)}
    results = []
    for name in ("local", "ray"):
        with build_runner(JobOptions.build({"engine": name, "workers": WORKERS})) as engine:
            results += [
                _beside(name, "embed", "texts", plain["embed"], functools.partial(_embed, engine)),
                _beside(
                    name, "prepare", "events", plain["prepare"], functools.partial(_prepare, engine)
                ),
                _recovery(name, engine, folder),
            ]
    return results


Plain = tuple[int, float, Path]
"""Rows, seconds of the run in one process, and the folder that it worked on."""


def _beside(name: str, what: str, unit: str, plain: Plain, work: Callable[[Path], float]) -> Result:
    rows, seconds, place = plain
    took = work(place)
    notes = {
        f"{what}: {unit} a second in one process": f"{rows / seconds:,.0f}",
        f"{what}: {unit} a second, {name} engine, {WORKERS} workers": f"{rows / took:,.0f}",
    }
    return Result(
        f"{what} of {rows:,} {unit}, {name} engine",
        Measurement(f"{WORKERS} workers", "s", [took]),
        Measurement("one process, all threads", "s", [seconds]),
        notes=notes,
    )


def _embed_plain(folder: Path) -> Plain:
    data = benchmark_dataset(folder)
    started = time.perf_counter()
    made = embed(data, EmbedOptions(users="none", name="plain"))
    seconds = time.perf_counter() - started
    shutil.rmtree(data.path / "text")
    return made.encoded, seconds, data.path


def _embed(engine: JobRunner, data: Path) -> float:
    started = time.perf_counter()
    embed_sharded(engine, data, EmbedOptions(users="none"))
    seconds = time.perf_counter() - started
    shutil.rmtree(data / "text")
    return seconds


def _prepare_plain(folder: Path) -> Plain:
    draw = np.random.default_rng(0)
    log = pl.DataFrame(
        {
            "user_id": [f"user-{n}" for n in draw.integers(0, EVENTS // 20, EVENTS)],
            "item_id": [f"item-{n}" for n in (draw.pareto(1.0, EVENTS) * 500).astype(int) % 50_000],
            "timestamp": draw.integers(1_400_000_000, 1_500_000_000, EVENTS),
        }
    )
    (folder / "log").mkdir()
    for number, part in enumerate(log.iter_slices(EVENTS // FILES)):
        part.write_parquet(folder / "log" / f"{number}.parquet")
    del log
    started = time.perf_counter()
    prepare(folder / "log", folder / "plain")
    return EVENTS, time.perf_counter() - started, folder / "log"


def _prepare(engine: JobRunner, log: Path) -> float:
    started = time.perf_counter()
    prepare_out_of_core(engine, log, log.parent / "parts", parts=2 * WORKERS, overwrite=True)
    return time.perf_counter() - started


def dies_once(folder: str, piece: int) -> None:
    """Leaves a mark with the time when it begins; piece 1 kills its process the first time."""
    began = Path(folder) / f"{piece}-{time.time_ns()}"
    began.touch()
    time.sleep(0.5)
    if piece == 1 and len(list(Path(folder).glob("1-*"))) == 1:
        began.rename(began.with_name(f"1-{time.time_ns()}"))  # the moment of its death
        os.kill(os.getpid(), signal.SIGKILL)


def _recovery(name: str, engine: JobRunner, folder: Path) -> Result:
    seconds = []
    for number in range(5):
        marks = folder / f"{name}-{number}"
        marks.mkdir()
        engine.run(functools.partial(dies_once, str(marks)), range(4), name="dies once")
        died, again = sorted(int(file.name.split("-")[1]) for file in marks.glob("1-*"))
        seconds.append((again - died) / 1e9)
    return Result(
        f"From a worker's death to the restart of its piece, {name} engine",
        Measurement("5 killed workers", "s", seconds),
        missing="no yardstick",
    )
