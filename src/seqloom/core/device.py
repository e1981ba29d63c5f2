"""Devices, cores, memory and the C allocator of this machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from seqloom.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

_GROUP_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Makes glibc keep large freed blocks instead of returning each to the system.

    Training frees and allocates the same large tensors at every step. By default glibc maps each one
    again, and the page faults cost two to four times the arithmetic on a CPU. Call it before the first
    large tensor. Returns whether it took effect (False where the C library is not glibc).
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
    """Returns the torch device called `name`; `auto` is a CUDA device if available, else the CPU.

    Raises:
        ConfigError: the name is not a device, or the device is not available.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is not a torch device: {error}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} is not available: torch sees no CUDA device; use 'cpu'")
    return device


def usable_cores() -> int:
    """Returns the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_rss_mb() -> float:
    """Returns the largest resident set of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)


def reset_peak_rss() -> None:
    """Resets the peak that `peak_rss_mb` returns, where the system supports it (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


@contextlib.contextmanager
def memory_limit(free: int) -> Iterator[None]:
    """Limits further allocations within the block to `free` bytes, where the system supports it (Linux).

    Larger allocations raise MemoryError, or torch's RuntimeError that it cannot allocate memory.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[5])  # data and stack
    except OSError:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = pages * os.sysconf("SC_PAGE_SIZE") + max(0, free)
    resource.setrlimit(resource.RLIMIT_DATA, (min(x for x in (limit, hard) if x >= 0), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def rss_bytes() -> int:
    """Returns the current resident set of this process; its peak where the system has no such figure."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return int(peak_rss_mb() * 2**20)


def available_memory(device: torch.device) -> int:
    """Returns the bytes that this process can still allocate: of a GPU, else of the machine.

    Respects the limit of a control group if it is lower.
    """
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits = [1024 * int(next(x for x in lines if x.startswith("MemAvailable")).split()[1])]
    for limit, used in _GROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(0, min(limits))
