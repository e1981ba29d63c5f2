"""Preparing a synthetic log: users and items by power laws, times over five years, drawn from a seed.

    python -m benchmarks.interactions OUT [--events 100000000] [--users 2000000] [--items 1000000] [--seed 0]

OUT ends in .parquet or .csv. Ids are strings (u123, i456). Rows are in the order of time, as in most logs.

`python -m benchmarks interactions` prepares such logs and opens the result.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from benchmarks.result import Measurement, Result

EVENTS, USERS, ITEMS = 100_000_000, 2_000_000, 1_000_000
ALLOWED_S = {"parquet": 120.0, "csv": 300.0}
ALLOWED_GIB, ALLOWED_OPEN_MS, POSITIONS_PER_S = 8.0, 100.0, 1e6
BATCHES = 2000
_MAIN = "from seqloom.cli.main import main; main()"
BLOCK = 1_000_000
ITEM_POWER, USER_POWER = 0.8, 0.5
"""The item of rank r is met about as r^-power says; users are busy in the same way."""
FIRST_SECOND, SECONDS = 1_500_000_000, 5 * 365 * 86_400
SCHEMA = pa.schema({"user_id": pa.string(), "item_id": pa.string(), "timestamp": pa.int64()})


def write_log(out: Path, events: int, users: int, items: int, seed: int = 0) -> None:
    """Write the log in blocks; memory does not grow with its length."""
    writer = pq.ParquetWriter if out.suffix == ".parquet" else pc.CSVWriter
    with writer(out, SCHEMA) as file:
        for table in blocks(events, users, items, seed):
            file.write_table(table)


def blocks(events: int, users: int, items: int, seed: int) -> Iterator[pa.Table]:
    """The log, a million rows at a time."""
    draw = np.random.default_rng(seed)
    user_ids, item_ids = _names("u", users, draw), _names("i", items, draw)
    for start in range(0, events, BLOCK):
        rows = min(BLOCK, events - start)
        who = _power_law(draw.random(rows), users, USER_POWER)
        what = _power_law(draw.random(rows), items, ITEM_POWER)
        when = np.sort(draw.random(rows)) * rows + start
        times = FIRST_SECOND + (when * (SECONDS / events)).astype(np.int64)
        yield pa.table([user_ids.take(pa.array(who)), item_ids.take(pa.array(what)), times], SCHEMA)


def _names(prefix: str, count: int, draw: np.random.Generator) -> pa.Array:
    """Ids in random order, so that they say nothing of how frequent they are."""
    return pa.array([f"{prefix}{number}" for number in draw.permutation(count)])


def _power_law(uniform: np.ndarray, count: int, power: float) -> np.ndarray:
    """Ranks 0..count - 1 with density about (rank + 1)^-power, from uniform draws."""
    edge = (count + 1) ** (1 - power)
    ranks = (1 + uniform * (edge - 1)) ** (1 / (1 - power)) - 1
    return np.minimum(ranks.astype(np.int64), count - 1)


def run(folder: Path) -> list[Result]:
    """Prepare from both formats, each in a process of its own, and open and batch the result."""
    results: list[Result] = []
    for kind, allowed in ALLOWED_S.items():
        log, out = folder / f"interactions.{kind}", folder / f"interactions-{kind}"
        write_log(log, EVENTS, USERS, ITEMS)
        seconds, peak = _prepared(log, out)
        log.unlink()
        title = f"prepare {EVENTS:,} interactions from {kind}"
        results += [
            Result(title, Measurement("whole", "s", [seconds]), _bar("s", allowed)),
            Result(
                f"{title}: memory", Measurement("peak", "GiB", [peak]), _bar("GiB", ALLOWED_GIB)
            ),
        ]
    return results + _opened(folder / "interactions-parquet")


def _bar(unit: str, value: float) -> Measurement:
    return Measurement("bar", unit, [value])


def _prepared(log: Path, out: Path) -> tuple[float, float]:
    """Seconds of the command, and the largest resident set of its process, GiB."""
    code = f"import resource, sys\ntry:\n    {_MAIN}\nfinally:\n    " + (
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "prepare", str(log), "--out", str(out)]
    command += ["--overwrite", "--json", "--quiet"]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    json.loads(done.stdout)
    return seconds, int(done.stderr.split()[-1]) / 2**20


def _opened(path: Path) -> list[Result]:
    """Time and memory of opening, and the speed at which batches are cut."""
    from seqloom.core.device import rss_bytes
    from seqloom.data.batches import plan_epoch, training_rows
    from seqloom.data.store import Dataset

    before, began = rss_bytes(), time.perf_counter()
    dataset = Dataset.load(path)
    milliseconds = 1000 * (time.perf_counter() - began)
    grown = (rss_bytes() - before) / 2**20
    plan = plan_epoch(training_rows(dataset.train, 50, "windows"), 128, 0, "train", 0)
    began = time.perf_counter()
    positions = sum(plan[at].inputs.items.numel() for at in range(min(BATCHES, len(plan))))
    rate = positions / (time.perf_counter() - began)
    return [
        Result(
            "Opening a prepared data set",
            Measurement("whole", "ms", [milliseconds]),
            _bar("ms", ALLOWED_OPEN_MS),
            notes={"memory that opening takes": f"{grown:.1f} MiB"},
        ),
        Result(
            "Cutting batches, a million positions",
            Measurement(f"{BATCHES:,} batches", "s", [1e6 / rate]),
            _bar("s", 1e6 / POSITIONS_PER_S),
        ),
    ]


def main() -> None:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interactions", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_log(options.out, options.events, options.users, options.items, options.seed)


if __name__ == "__main__":
    main()
