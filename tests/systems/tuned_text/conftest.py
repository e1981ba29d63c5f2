"""A small data set whose titles the tiny language model tells apart."""

from __future__ import annotations

from typing import Any

import pytest

from support.datasets import tiny_dataset
from support.language_models import save_tiny_llama

TITLES = ["below is", "an", "instruction that", "describes a task", "write", "user user a", "is an"]
ROWS = [[1, 2, 3, 4, 5], [2, 3, 6, 1, 2], [6, 5, 4, 3], [7, 4, 6, 5, 1, 2]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_dataset(tmp_path_factory.mktemp("data") / "d", ROWS, titles=TITLES)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return str(save_tiny_llama(tmp_path_factory.mktemp("llama") / "llama"))
