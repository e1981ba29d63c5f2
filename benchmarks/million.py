"""A catalogue of a million items: a training step with exact softmax, and the 100 best items for one history.

Also what the sampled losses cost an epoch of Beauty beside the exact one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.data import benchmark_dataset
from benchmarks.machine import matmul_rate
from benchmarks.result import Measurement, Result
from seqloom.core.device import keep_freed_memory, peak_rss_mb
from seqloom.inference.ann_index import ApproximateIndex
from seqloom.inference.ranker import best_items
from seqloom.nn.losses import softmax_loss
from seqloom.pipelines.train.train import train
from seqloom.systems.base import Sizes
from seqloom.systems.config import SASRecConfig
from seqloom.systems.sasrec import SASRec

ITEMS, TARGETS, WIDTH, BEST = 1_000_000, 512, 64, 100
STEPS, QUERIES = 3, 20
DIRECTIONS, NOISE = 12, 0.5
"""Of the items that an index is measured on."""
ALLOWED_GIB, ALLOWED_MS = 2.0, 25.0
LOSSES = {
    "sampled-softmax": {"kind": "sampled-softmax", "negatives": 2048},
    "gbce": {"kind": "gbce", "negatives": 256},
}


def run(folder: Path) -> list[Result]:
    """Memory first, since the peak of a process never falls."""
    keep_freed_memory()
    return [*_step(), _best(), *_approximate(), *_losses(folder)]


def _step() -> list[Result]:
    rates = matmul_rate()
    draw = torch.Generator().manual_seed(0)
    items = (0.02 * torch.randn(ITEMS, WIDTH, generator=draw)).requires_grad_()
    states = torch.randn(TARGETS, WIDTH, generator=draw).requires_grad_()
    targets = torch.randint(ITEMS, (TARGETS,), generator=draw)
    optimiser = torch.optim.AdamW([items], lr=1e-3, fused=True)
    before = peak_rss_mb()
    seconds = []
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        softmax_loss(states, items, targets).backward()
        optimiser.step()
        seconds.append(time.perf_counter() - started)
    above = (peak_rss_mb() - before) / 1024
    rates += matmul_rate()
    flop = 6 * TARGETS * ITEMS * WIDTH
    title = f"Training step, {TARGETS} targets x {ITEMS:,} items x {WIDTH}"
    limit = Measurement("its products alone", "s", [flop / rate for rate in rates])
    return [
        Result(title, Measurement("with AdamW", "s", seconds[1:]), limit),
        Result(
            f"{title}: memory above the parameters",
            Measurement("peak, gradients and moments included", "GiB", [above]),
            Measurement("bar", "GiB", [ALLOWED_GIB]),
        ),
    ]


def _best() -> Result:
    system = SASRec(SASRecConfig.build({"encoder": {"hidden_size": WIDTH}}), Sizes(num_items=ITEMS))
    torch.nn.init.normal_(system.items, std=0.02)
    scorer = system.scorer()
    draw = torch.Generator().manual_seed(0)
    milliseconds = []
    with torch.inference_mode():
        for _ in range(QUERIES + 2):
            history = torch.randint(1, ITEMS + 1, (1, 20), generator=draw)
            started = time.perf_counter()
            best_items(scorer.score(history, torch.tensor([20])), BEST)
            milliseconds.append(1000 * (time.perf_counter() - started))
    return Result(
        f"The best {BEST} of {ITEMS:,} items for one history",
        Measurement("exact", "ms", milliseconds[2:]),
        Measurement("bar", "ms", [ALLOWED_MS]),
    )


def _approximate() -> list[Result]:
    """By an index, on items of few independent directions and a little noise: independent numbers would have
    no lists of alike items."""
    draw = torch.Generator().manual_seed(0)
    directions = torch.randn(DIRECTIONS, WIDTH, generator=draw)
    items = torch.randn(ITEMS, DIRECTIONS, generator=draw) @ directions
    items += NOISE * torch.randn(ITEMS, WIDTH, generator=draw)
    started = time.perf_counter()
    index = ApproximateIndex(items)
    built = Measurement("building the index", "s", [time.perf_counter() - started])
    near = items[torch.randint(ITEMS, (512,), generator=draw)]
    queries = near + torch.randn(near.shape, generator=draw)
    recall = index.tune(queries, BEST, 0.95)

    def times(search: Callable[[Tensor], object]) -> list[float]:
        taken = []
        for query in queries[: QUERIES + 2, None]:
            started = time.perf_counter()
            search(query)
            taken.append(1000 * (time.perf_counter() - started))
        return taken[2:]

    with torch.inference_mode():
        ours = times(lambda query: index.best(query, BEST))
        exact = times(lambda query: best_items(query @ items.t(), BEST))
    notes = {"recall": str(recall), "items": f"{DIRECTIONS} directions of {WIDTH}, noise {NOISE}"}
    title = f"The best {BEST} of {ITEMS:,} items by an index"
    return [
        Result(
            f"{title}, one query",
            Measurement("approximate", "ms", ours),
            Measurement("exact", "ms", exact),
            notes=notes,
        ),
        Result(f"{title}: building it", built, missing="built once per run"),
    ]


def _losses(folder: Path) -> list[Result]:
    dataset = benchmark_dataset(folder)

    def epoch(name: str, loss: dict[str, object]) -> Measurement:
        config = {"epochs": 3, "patience": None, "encoder": {"hidden_size": WIDTH}, "loss": loss}
        out = folder / "runs" / f"loss-{name}"
        summary = train(dataset, "sasrec", config=config, out=out, overwrite=True)
        return Measurement(name, "s", summary.seconds_per_epoch[1:])

    exact = epoch("softmax", {"kind": "softmax"})
    return [
        Result(f"Epoch of Beauty, {name} against exact softmax", epoch(name, loss), exact)
        for name, loss in LOSSES.items()
    ]
