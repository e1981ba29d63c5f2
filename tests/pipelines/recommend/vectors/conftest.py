"""One small run whose vectors are exported."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqloom.data.store import Dataset
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import Run, load_run
from support.datasets import prepared_dataset, small_config


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepared_dataset(tmp_path_factory.mktemp("shop") / "data")


@pytest.fixture(scope="session")
def run(shop: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder: Path = tmp_path_factory.mktemp("run") / "Shop run"
    train(shop, "sasrec", out=folder, config=small_config("sasrec"), device="cpu")
    return load_run(folder)
