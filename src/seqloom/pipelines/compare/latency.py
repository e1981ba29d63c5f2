"""Measures how long one request takes: a single history in, the ten best items out."""

from __future__ import annotations

import time

import torch

from seqloom.core.config import Config
from seqloom.data.sequences import Sequences
from seqloom.inference.ranker import Ranker
from seqloom.runs.folder import Run

_K = 10
_WARM_UP = 3
_FEWEST, _MOST = 5, 100
_SECONDS = 2.0
"""Measuring stops after this time, if the fewest requests are done."""


class Latency(Config):
    """Times of single requests, one after the other, without a server around them."""

    requests: int
    median_ms: float
    p95_ms: float
    device: str


def measure_latency(run: Run, histories: Sequences) -> Latency:
    """Ranks one history after the other and measures the time of each.

    Raises:
        ValueError: there is no history.
    """
    if not len(histories):
        raise ValueError("there is no history to measure with")
    ranker = run.ranker(for_empty=bool((histories.lengths == 0).any()))
    times: list[float] = []
    start = time.perf_counter()
    for number in range(_WARM_UP + _MOST):
        started = time.perf_counter()
        answer_one(ranker, histories.select(torch.tensor([number % len(histories)])))
        now = time.perf_counter()
        if number >= _WARM_UP:
            times.append(1000.0 * (now - started))
        if len(times) >= _FEWEST and now - start > _SECONDS:
            break
    taken = torch.tensor(times, dtype=torch.float64)
    return Latency(
        requests=len(times),
        median_ms=float(taken.quantile(0.5)),
        p95_ms=float(taken.quantile(0.95)),
        device=str(run.device),
    )


def answer_one(ranker: Ranker, history: Sequences) -> list[int]:
    """Returns the ten best item numbers for one history, without its own items."""
    numbers: list[int] = ranker.best(history, _K, hidden=history).items[0].tolist()
    return numbers
