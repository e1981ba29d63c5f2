"""Measures the speed of this machine in about a second."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from seqloom.core.cost import FLOAT_BYTES, Rates
from seqloom.core.random import generator
from seqloom.nn.dropout import dropout
from seqloom.nn.linear import product
from seqloom.nn.losses import chunk_rows

_SECONDS_EACH = 0.12
_CATALOGUE = 16_384
"""Items of the timed softmax; larger catalogues use chunks of logits of the same size."""
_CACHED = 1 << 16
_STREAMED = 1 << 24
_ROWS = 4096
_PASSES = 6
"""Numbers that dropout and GELU write for each number that they read."""


def measure_rates(num_items: int, width: int, device: torch.device) -> Rates:
    """Measures the seconds for a unit of each kind of work, on tensors with the shapes of a training.

    Args:
        num_items: N.
        width: D', of the vectors that score the catalogue.
    """
    items = min(num_items, _CATALOGUE)
    rows = chunk_rows(items, device)
    draw = generator(0, "calibration")
    state = torch.randn(rows, width, generator=draw).to(device)
    table = torch.randn(items, width, generator=draw).to(device)
    logits = product(state, table)
    small = torch.randn(_CACHED, generator=draw).to(device)
    large = torch.ones(_STREAMED, device=device)
    places = torch.randint(items, (_ROWS,), generator=draw).to(device)
    one = torch.ones(1, device=device, requires_grad=True)
    calls = _seconds(lambda: (one * one).sum().backward(), device) / 4
    return Rates(
        # A softmax has three products, forward and backward.
        products=_seconds(lambda: _softmax_products(state, table, logits), device)
        / (6 * rows * items * width),
        # Dropout and GELU are of medium cost among the element-wise operations.
        elements=_seconds(lambda: (dropout(small, 0.5, training=True), F.gelu(small)), device)
        / (_PASSES * _CACHED),
        logits=_seconds(lambda: (logits.amax(1), torch.softmax(logits, 1).amax(1)), device)
        / (rows * items),
        moved=_seconds(lambda: large.add_(large), device) / (2 * FLOAT_BYTES * _STREAMED),
        gathered=_seconds(lambda: table[places], device) / _ROWS,
        calls=calls,
    )


def _softmax_products(state: Tensor, table: Tensor, logits: Tensor) -> None:
    """Computes the products of a softmax as `nn.losses` does. Shapes: [M, D], [N, D], [M, N]."""
    product(state, table)
    product(logits, table.t())
    product(state.t(), logits.t())


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Returns the median time of a call, over the calls of an eighth of a second, at least three."""
    work()
    seconds: list[float] = []
    began = time.perf_counter()
    while len(seconds) < 3 or time.perf_counter() - began < _SECONDS_EACH:
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
