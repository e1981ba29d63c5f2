"""How long one request takes: a single history in, the ten best items out."""

from __future__ import annotations

import time

import torch

from seqloom.core.config import Config
from seqloom.core.protocols import ListScorer
from seqloom.data.sequences import Sequences
from seqloom.evaluation.ranking import best_items, mask_items
from seqloom.runs.folder import Run

_K = 10
_WARM_UP = 3
_FEWEST, _MOST = 5, 100
_SECONDS = 2.0
"""After so long, and the fewest requests, it stops."""


class Latency(Config):
    """Times of single requests, one after the other, without a server around them."""

    requests: int
    median_ms: float
    p95_ms: float
    device: str


def measure_latency(run: Run, histories: Sequences) -> Latency:
    """Answer one history after the other and take the time of each.

    Raises:
        ValueError: there is no history.
    """
    if not len(histories):
        raise ValueError("there is no history to ask for")
    times: list[float] = []
    began = time.perf_counter()
    for number in range(_WARM_UP + _MOST):
        started = time.perf_counter()
        _answer(run, histories.select(torch.tensor([number % len(histories)])))
        now = time.perf_counter()
        if number >= _WARM_UP:
            times.append(1000.0 * (now - started))
        if len(times) >= _FEWEST and now - began > _SECONDS:
            break
    taken = torch.tensor(times, dtype=torch.float64)
    return Latency(
        requests=len(times),
        median_ms=float(taken.quantile(0.5)),
        p95_ms=float(taken.quantile(0.95)),
        device=str(run.device),
    )


@torch.inference_mode()
def _answer(run: Run, history: Sequences) -> list[list[int]]:
    batch = history.pad(run.system.max_len).to(run.device)
    if isinstance(run.scorer, ListScorer):
        seen = history.pad().items.to(run.device)
        return run.scorer.best(batch.items, batch.lengths, _K, seen)[0].tolist()
    scores = run.scorer.score(batch.items, batch.lengths)
    mask_items(scores, history)
    return best_items(scores, _K, run.tie_keys).tolist()
