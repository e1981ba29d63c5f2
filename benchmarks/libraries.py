"""SASRec compared with three public libraries: seconds per epoch, memory, ranking.

All train the same shape with exact softmax on the same histories, with the same allocator setting and as many
threads. A quick run takes the first steps of an epoch of the libraries and scales them to the whole.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.data import benchmark_dataset, sequence_file
from benchmarks.models import train_epochs
from benchmarks.naive import naive_ranks
from benchmarks.result import Measurement, Result
from benchmarks.yardsticks import YARDSTICKS, Yardstick
from benchmarks.yardsticks.environment import YardstickError
from seqloom.core.device import keep_freed_memory, peak_rss_mb
from seqloom.data.store import Dataset
from seqloom.evaluation.ranking import rank_targets
from seqloom.pipelines.train.train import TrainSummary
from seqloom.runs.folder import load_run

EPOCHS, QUICK_EPOCHS, LIBRARY_EPOCHS = 6, 4, 3
QUICK_STEPS = {"replay": 13, "rectools": 13, "recbole": 5}
"""The first step of these is a warm-up. RecBole's are sixteen times as long."""
RANKINGS, CHECKED = 3, 200


def run(folder: Path, quick: bool = False) -> list[Result]:
    """Ours first, then each library in a process of its own."""
    keep_freed_memory()
    dataset = benchmark_dataset(folder)
    ours = train_epochs(dataset, folder, "sasrec", QUICK_EPOCHS if quick else EPOCHS)
    memory = Measurement("whole process", "MiB", [peak_rss_mb()])
    epoch = Measurement("SASRec epoch", "s", ours.seconds_per_epoch[1:])
    ranking, equal = _ranking(dataset, ours)
    data = sequence_file(dataset, folder)
    results = []
    for yardstick in YARDSTICKS:
        try:
            report = _measure(yardstick, folder / "yardsticks", data, quick)
        except YardstickError as error:
            results.append(Result(f"{yardstick.title}: an epoch", epoch, missing=str(error)))
            continue
        seconds, name = _epoch(yardstick, report)
        results += [
            Result(f"{yardstick.title}: an epoch", epoch, Measurement(name, "s", seconds)),
            Result(
                f"{yardstick.title}: peak memory",
                memory,
                Measurement("whole process", "MiB", [report["training_mb"]]),
            ),
            Result(
                f"{yardstick.title}: ranking of all users",
                ranking,
                Measurement("its own ranking", "s", report["rank_seconds"]),
            ),
        ]
    notes = {
        "shape": "width 64, 2 blocks, 2 heads, length 50, dropout 0.5, exact softmax over all items",
        "ranking": f"{len(dataset.held_out('test').users):,} users x {dataset.num_items:,} items, "
        "seen items masked (RecBole leaves them in)",
        "ranks equal to a naive float64 ranking": equal,
        "threads": str(torch.get_num_threads()),
    }
    return [Result(r.title, r.ours, r.yardstick, r.missing, notes) for r in results]


def _measure(yardstick: Yardstick, folder: Path, data: Path, quick: bool) -> dict[str, Any]:
    if quick:
        return yardstick.measure(folder, data, steps=QUICK_STEPS[yardstick.name])
    return yardstick.measure(folder, data, epochs=LIBRARY_EPOCHS)


def _epoch(yardstick: Yardstick, report: dict[str, Any]) -> tuple[list[float], str]:
    """Seconds of an epoch, and how they were come by."""
    batch = f"batch {yardstick.batch_size}"
    if report["epoch_seconds"]:
        return report["epoch_seconds"], f"{len(report['epoch_seconds'])} epochs, {batch}"
    steps, whole = report["step_seconds"], report["steps_per_epoch"]
    name = f"quick: {len(steps)} of {whole} steps scaled to all, {batch}"
    return [each * whole for each in steps], name


def _ranking(dataset: Dataset, trained: TrainSummary) -> tuple[Measurement, str]:
    """Seconds of ranking all test targets, and on a sample how many ranks are those of float64."""
    held_out, system = dataset.held_out("test"), load_run(trained.run).system
    seconds = []
    for _ in range(RANKINGS):
        started = time.perf_counter()
        ranks = rank_targets(
            system.scorer(),
            held_out,
            popularity=dataset.popularity[1:],
            max_len=system.max_len,
        ).ranks
        seconds.append(time.perf_counter() - started)
    rows = torch.linspace(0, len(ranks) - 1, CHECKED).long().tolist()
    slow = naive_ranks(system, held_out, rows)
    equal = sum(int(ranks[row]) == rank for row, rank in zip(rows, slow, strict=True))
    return Measurement("rank every test target", "s", seconds), f"{equal} of {CHECKED} users"
