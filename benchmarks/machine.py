"""The machine that measured, and what its arithmetic gives."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

_SIZE = 2048
_LIBRARIES = ("torch", "numpy", "polars")


def describe() -> dict[str, str]:
    """Processor, cores, memory and versions."""
    from seqloom._version import __version__
    from seqloom.core.device import usable_cores

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "processor": _processor(),
        "cores": str(usable_cores()),
        "threads": str(torch.get_num_threads()),
        "memory": f"{memory:.0f} GiB",
        "python": platform.python_version(),
        "seqloom": __version__,
        **{name: version(name) for name in _LIBRARIES},
    }


def _processor() -> str:
    """Name, family and model: a cloud's name alone says nothing of the generation."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    parts = [
        f"{name.removeprefix('cpu ')} {fields[name]}"
        for name in ("cpu family", "model")
        if name in fields
    ]
    return ", ".join([fields["model name"], *parts])


def matmul_rate(repeats: int = 5) -> list[float]:
    """Measured rates of torch's own float32 matrix product, FLOP/s."""
    return _rates(torch.matmul, repeats)


def fastest_rate(repeats: int = 5) -> list[float]:
    """The same of the library that seqloom multiplies with on this processor."""
    from seqloom.nn.linear import product

    return _rates(product, repeats)


def _rates(multiply: Callable[[Tensor, Tensor], Tensor], repeats: int) -> list[float]:
    a, b = torch.randn(_SIZE, _SIZE), torch.randn(_SIZE, _SIZE)
    multiply(a, b)
    rates = []
    for _ in range(repeats):
        started = time.perf_counter()
        multiply(a, b)
        rates.append(2 * _SIZE**3 / (time.perf_counter() - started))
    return rates
