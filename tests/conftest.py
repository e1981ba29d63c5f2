"""Settings of all tests: helpers are importable, and no test contacts a model hub."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported: its kernels then run on a CPU
sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture
def products_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces oneDNN's products, which torch's counter does not see."""
    monkeypatch.setattr("seqloom.nn.linear._has_onednn", lambda: False)
