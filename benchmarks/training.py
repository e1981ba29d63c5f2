"""One epoch of SASRec with exact softmax, its memory, and full-ranking evaluation."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from benchmarks.data import benchmark_dataset
from benchmarks.machine import matmul_rate
from benchmarks.plain import PlainSASRec, plain_batches, plain_pair
from benchmarks.result import Measurement, Result
from seqloom.core.device import keep_freed_memory, peak_rss_mb
from seqloom.data.store import Dataset
from seqloom.evaluation.ranking import rank_targets
from seqloom.runs.folder import load_run
from seqloom.runs.train import train

WIDTH, LAYERS, HEADS, DROPOUT, MAX_LEN, BATCH, SEED = 64, 2, 2, 0.5, 50, 128, 42
EPOCHS = 4
YARDSTICK_STEPS = 12


def run(folder: Path) -> list[Result]:
    """Train, evaluate, and do the same with plain torch."""
    keep_freed_memory()
    dataset = benchmark_dataset(folder)
    rates = matmul_rate()
    config = {
        "seed": SEED,
        "epochs": EPOCHS,
        "patience": None,
        "batch_size": BATCH,
        "encoder": {
            "hidden_size": WIDTH,
            "num_layers": LAYERS,
            "num_heads": HEADS,
            "dropout": DROPOUT,
            "max_len": MAX_LEN,
        },
    }
    out = folder / "runs" / "sasrec"
    summary = train(dataset, "sasrec", config=config, out=out, overwrite=True)
    memory = peak_rss_mb()
    rates += matmul_rate()
    epoch = Measurement("SASRec epoch", "s", summary.seconds_per_epoch[1:])
    flop = 6 * summary.targets_per_epoch * dataset.num_items * WIDTH
    limit = Measurement("matrix products of the softmax alone", "s", [flop / r for r in rates])
    notes = {
        "seed": str(SEED),
        "data": f"{dataset.num_users:,} users, {dataset.num_items:,} items",
        "targets in an epoch": f"{summary.targets_per_epoch:,}",
        "matrix-product rate": f"{sorted(rates)[len(rates) // 2] / 1e9:.0f} GFLOP/s",
    }
    ranking = _ranking(dataset, out)
    plain, plain_memory = _plain_epoch(dataset)
    return [
        Result("SASRec epoch against plain torch", epoch, plain, notes=notes),
        Result("SASRec epoch against the arithmetic", epoch, limit, notes=notes),
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
        rank_targets(system.scorer(), held_out, max_len=system.max_len)
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
