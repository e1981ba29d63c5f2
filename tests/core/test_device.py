"""Devices by name, memory and its limit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seqloom.core import device
from seqloom.core.device import available_memory, peak_rss_mb, resolve_device, rss_bytes
from seqloom.core.errors import ConfigError

LIMITED = """
import torch
from seqloom.core.device import memory_limit
with memory_limit(64 << 20):
    torch.zeros(8 << 20, dtype=torch.uint8)
    try:
        torch.zeros(512 << 20, dtype=torch.uint8).add_(1)
    except (MemoryError, RuntimeError):
        print("refused")
torch.zeros(512 << 20, dtype=torch.uint8).add_(1)
print("allowed")
"""


def test_devices_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    for available, kind in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda value=available: value)
        assert resolve_device("auto").type == resolve_device().type == kind
    assert resolve_device("cuda:1") == torch.device("cuda", 1)


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"'cuda:0' is not available.*use 'cpu'"):
        resolve_device("cuda:0")
    with pytest.raises(ConfigError, match="'gpu' is not a torch device"):
        resolve_device("gpu")


def test_memory_is_measured_in_its_units() -> None:
    before = rss_bytes()
    kept = torch.ones(64 << 20, dtype=torch.uint8)
    after = rss_bytes()
    assert 48 << 20 <= after - before <= 128 << 20
    assert peak_rss_mb() * 2**20 >= after - (1 << 20)
    assert kept.sum() == 64 << 20
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 <= available_memory(torch.device("cpu")) <= memory


def test_the_lower_limit_of_a_control_group_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    used.write_text("400000\n")
    monkeypatch.setattr(device, "_GROUP_LIMITS", ((str(limit), str(used)),))
    limit.write_text("1000000\n")
    assert available_memory(torch.device("cpu")) == 600_000
    limit.write_text("100000\n")
    assert available_memory(torch.device("cpu")) == 0
    limit.write_text("max\n")
    assert available_memory(torch.device("cpu")) > 600_000


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
def test_a_limit_holds_within_its_block_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["refused", "allowed"]
