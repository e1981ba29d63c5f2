"""Similar users for self-distillation: 100,000 whole; of a million the memory, and some rows scaled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.machine import matmul_rate
from benchmarks.result import Measurement, Result
from seqloom.core.device import peak_rss_mb
from seqloom.core.progress import Silent, Task
from seqloom.text.neighbours import top_similar

WIDTH, SIMILAR = 384, 10
USERS, MANY, ROWS_OF_MANY = 100_000, 1_000_000, 1_000


def run(folder: Path) -> list[Result]:
    """The million first, since the peak of a process never falls."""
    return [*_many(), _whole()]


class _Stopwatch(Silent):
    """Measures the seconds from one report of progress to the next."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    @contextmanager
    def task(self, name: str, total: float | None = None, unit: str = "steps") -> Iterator[Task]:
        """Start the watch."""
        self._since = time.perf_counter()
        yield self

    def advance(self, amount: float = 1, **shown: object) -> None:
        """Keep the seconds for one of the `amount` units."""
        now = time.perf_counter()
        self.seconds.append((now - self._since) / amount)
        self._since = now


def _many() -> list[Result]:
    matrix = _random(MANY)
    before = peak_rss_mb()
    rates = matmul_rate()
    watch = _Stopwatch()
    top_similar(matrix, SIMILAR, of=torch.randperm(MANY)[:ROWS_OF_MANY], progress=watch)
    seconds = [MANY * each / 3600 for each in watch.seconds[1:]]  # the first touches fresh memory
    above = (peak_rss_mb() - before) / 1024
    rates += matmul_rate()
    flop = 2 * MANY * MANY * WIDTH
    name = f"{ROWS_OF_MANY:,} rows scaled to all"
    limit = Measurement("the product alone", "h", [flop / rate / 3600 for rate in rates])
    bound = Measurement("what is allowed above the embeddings", "GiB", [4.0])
    return [
        Result(f"Similar users of {MANY:,}", Measurement(name, "h", seconds), limit),
        Result(
            f"Memory above {MANY:,} embeddings",
            Measurement("peak of the process", "GiB", [above]),
            bound,
        ),
    ]


def _whole() -> Result:
    matrix = _random(USERS)
    rates = matmul_rate()
    started = time.perf_counter()
    top_similar(matrix, SIMILAR)
    seconds = time.perf_counter() - started
    rates += matmul_rate()
    flop = 2 * USERS * USERS * WIDTH
    limit = Measurement("the product alone", "s", [flop / rate for rate in rates])
    notes = {"embeddings": f"random, width {WIDTH}; the {SIMILAR} most similar, exact"}
    ours = Measurement("all rows", "s", [seconds])
    return Result(f"Similar users of {USERS:,}", ours, limit, notes=notes)


def _random(rows: int) -> torch.Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(0))
