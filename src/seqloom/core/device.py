"""The machine: which device to use, how many threads, and how the C allocator behaves."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
from typing import TYPE_CHECKING

from seqloom.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Tell glibc to keep large freed blocks instead of returning each to the system.

    Training frees and takes back the same large tensors at every step. By default glibc maps each one
    anew, and the page faults cost two to four times the arithmetic on a CPU. Call once, before the
    first large tensor. Returns whether it took effect (False where the C library is not glibc).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    keep = 2**31 - 1
    return bool(
        libc.mallopt(_M_MMAP_MAX, 0)
        and libc.mallopt(_M_TRIM_THRESHOLD, keep)
        and libc.mallopt(_M_TOP_PAD, 64 << 20)
    )


def resolve_device(name: str = "auto") -> torch.device:
    """`auto` takes a CUDA device where there is one, else the CPU; any torch device name is taken as is.

    Raises:
        ConfigError: the name is no device, or the device is not there.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is not a torch device: {error}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device {name!r} was asked for, but torch sees no CUDA device; use 'cpu'"
        )
    return device


def usable_cores() -> int:
    """The number of cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_rss_mb() -> float:
    """The largest resident set of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)
