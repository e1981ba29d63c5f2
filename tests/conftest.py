"""What every test shares: the helpers are importable, and nothing reaches for a model hub."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture
def products_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN's products are unknown to torch's counter, and keep their inputs in other ways."""
    monkeypatch.setattr("seqloom.nn.linear._has_onednn", lambda: False)
