"""One prepared data set for the stages that train."""

from __future__ import annotations

import pytest

from seqloom.data.store import Dataset
from support.datasets import prepared_dataset


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """60 users, 40 items, with text embeddings."""
    return prepared_dataset(tmp_path_factory.mktemp("shop") / "data")
