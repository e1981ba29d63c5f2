"""Similar users for self-distillation: all of 100,000; memory and scaled work of a million."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from benchmarks.machine import matmul_rate
from benchmarks.result import Measurement, Result
from seqloom.core.device import keep_freed_memory, peak_rss_mb
from seqloom.core.progress import SilentProgress, Task
from seqloom.text.neighbours import top_similar

WIDTH, SIMILAR = 384, 10
USERS, MANY, ALLOWED_S, ALLOWED_GIB = 100_000, 1_000_000, 300.0, 4.0
PAIRS_OF_MANY = 2_000_000_000
"""Pairs of the million that are compared before the search is stopped."""


def run(folder: Path) -> list[Result]:
    """The million first, since the peak of a process never falls."""
    keep_freed_memory()
    return [*_many(), *_whole()]


class _EnoughError(Exception):
    """Ends a search whose speed is known."""


class _Stopwatch(SilentProgress):
    """Takes the time for each pair, and stops the search after some."""

    def __init__(self, pairs: float) -> None:
        self.seconds: list[float] = []
        self._left = pairs

    @contextmanager
    def task(self, name: str, total: float | None = None, unit: str = "steps") -> Iterator[Task]:
        """Start the watch."""
        self._since = time.perf_counter()
        yield self

    def advance(self, amount: float = 1, **shown: object) -> None:
        """Keep the seconds for one of the `amount` pairs."""
        now = time.perf_counter()
        self.seconds.append((now - self._since) / amount)
        self._since = now
        self._left -= amount
        if self._left < 0:
            raise _EnoughError


def _many() -> list[Result]:
    matrix = _random(MANY)
    before = peak_rss_mb()
    rates = matmul_rate()
    watch = _Stopwatch(PAIRS_OF_MANY)
    with suppress(_EnoughError):
        top_similar(matrix, SIMILAR, progress=watch)
    pairs = MANY * (MANY + 1) / 2
    half = len(watch.seconds) // 2  # the first tiles are looked at more closely than the rest
    hours = [pairs * each / 3600 for each in watch.seconds[half:]]
    above = (peak_rss_mb() - before) / 1024
    rates += matmul_rate()
    name = f"{PAIRS_OF_MANY:,} pairs scaled to all"
    return [
        Result(
            f"Similar users of {MANY:,}",
            Measurement(name, "h", hours),
            Measurement(
                "the whole product alone", "h", [_product_s(MANY, r) / 3600 for r in rates]
            ),
        ),
        Result(
            f"Memory above {MANY:,} embeddings",
            Measurement("peak of the process", "GiB", [above]),
            Measurement("bar", "GiB", [ALLOWED_GIB]),
        ),
    ]


def _whole() -> list[Result]:
    matrix = _random(USERS)
    rates = matmul_rate()
    started = time.perf_counter()
    top_similar(matrix, SIMILAR)
    ours = Measurement("all rows", "s", [time.perf_counter() - started])
    rates += matmul_rate()
    limit = Measurement("the whole product alone", "s", [_product_s(USERS, r) for r in rates])
    notes = {"embeddings": f"random, width {WIDTH}; the {SIMILAR} most similar, exact"}
    title = f"Similar users of {USERS:,}"
    return [
        Result(title, ours, limit, notes=notes),
        Result(f"{title} against the bar", ours, Measurement("bar", "s", [ALLOWED_S])),
    ]


def _product_s(rows: int, rate: float) -> float:
    """Seconds of the product of all rows with all; each pair is in it twice."""
    return 2 * rows * rows * WIDTH / rate


def _random(rows: int) -> torch.Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(0))
