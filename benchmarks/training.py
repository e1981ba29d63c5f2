"""One epoch of SASRec with exact softmax, its memory, and full-ranking evaluation."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from benchmarks.data import benchmark_dataset
from benchmarks.machine import fastest_rate, matmul_rate
from benchmarks.models import (
    BATCH,
    DROPOUT,
    HEADS,
    LAYERS,
    MAX_LEN,
    SEED,
    WIDTH,
    softmax_flop,
    train_epochs,
)
from benchmarks.plain import PlainSASRec, plain_batches, plain_pair
from benchmarks.result import Measurement, Result
from seqloom.core.device import keep_freed_memory, peak_rss_mb
from seqloom.data.store import Dataset
from seqloom.evaluation.ranking import rank_targets
from seqloom.runs.folder import load_run

EPOCHS, QUICK_EPOCHS = 6, 4
YARDSTICK_STEPS = 12
ALLOWED = 2.2
"""Times the arithmetic that an epoch may take."""


def run(folder: Path, quick: bool = False) -> list[Result]:
    """Train, evaluate, and do the same with plain torch."""
    keep_freed_memory()
    dataset = benchmark_dataset(folder)
    summary = train_epochs(dataset, folder, "sasrec", QUICK_EPOCHS if quick else EPOCHS)
    memory = peak_rss_mb()  # before anything else in this process takes some
    rates, fastest = matmul_rate(), fastest_rate()
    epoch = Measurement("SASRec epoch", "s", summary.seconds_per_epoch[1:])
    flop = softmax_flop(summary.targets_per_epoch, dataset.num_items)
    limit = Measurement(
        "matrix products of the softmax, torch.matmul", "s", [flop / r for r in rates]
    )
    bar = Measurement(f"{ALLOWED} times these products", "s", [ALLOWED * s for s in limit.values])
    lowest = Measurement("the same products, fastest library", "s", [flop / r for r in fastest])
    notes = {
        "seed": str(SEED),
        "data": f"{dataset.num_users:,} users, {dataset.num_items:,} items",
        "targets in an epoch": f"{summary.targets_per_epoch:,}",
        "products of an epoch": f"{flop / 1e9:.0f} GFLOP",
        "torch.matmul": f"{sorted(rates)[len(rates) // 2] / 1e9:.0f} GFLOP/s",
        "fastest library": f"{sorted(fastest)[len(fastest) // 2] / 1e9:.0f} GFLOP/s",
    }
    ranking = _ranking(dataset, Path(summary.run))
    plain, plain_memory = _plain_epoch(dataset)
    return [
        Result("SASRec epoch against plain torch", epoch, plain, notes=notes),
        Result("SASRec epoch against the bar", epoch, bar),
        Result("SASRec epoch against the arithmetic", epoch, limit),
        Result("SASRec epoch against the arithmetic at its fastest", epoch, lowest),
        Result(
            "Peak memory of training",
            Measurement("SASRec, whole process", "MiB", [memory]),
            Measurement("plain torch, whole process", "MiB", [plain_memory]),
        ),
        ranking,
    ]


def _ranking(dataset: Dataset, run: Path) -> Result:
    held_out = dataset.held_out("test")
    system = load_run(run).system
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        rank_targets(
            system.scorer(),
            held_out,
            popularity=dataset.popularity[1:],
            max_len=system.max_len,
        )
        seconds.append(time.perf_counter() - started)
    users, items = len(held_out.users), dataset.num_items
    flop = 2 * users * items * WIDTH
    limit = Measurement("the product alone", "s", [flop / rate for rate in matmul_rate()])
    return Result(
        "Full-ranking evaluation against the arithmetic",
        Measurement("rank every test target", "s", seconds),
        limit,
        notes={"ranked": f"{users:,} users x {items:,} items, seen items masked"},
    )


def _plain_epoch(dataset: Dataset) -> tuple[Measurement, float]:
    """Seconds of an epoch, from a dozen steps of the whole; and the memory after them, MiB."""
    torch.manual_seed(SEED)
    model = PlainSASRec(dataset.num_items, WIDTH, LAYERS, HEADS, DROPOUT, MAX_LEN).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batches = plain_batches(dataset.train, BATCH, SEED)
    seconds = []
    for rows in batches[: YARDSTICK_STEPS + 1]:
        started = time.perf_counter()
        optimiser.zero_grad()
        model.loss(*plain_pair(dataset.train, rows, MAX_LEN)).backward()
        optimiser.step()
        seconds.append(time.perf_counter() - started)
    name = f"plain torch ({YARDSTICK_STEPS} steps, scaled to {len(batches)})"
    return Measurement(name, "s", [s * len(batches) for s in seconds[1:]]), peak_rss_mb()
