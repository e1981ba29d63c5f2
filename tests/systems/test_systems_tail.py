"""What MELT and CITIES have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.data.store import Dataset
from seqloom.systems.base import TrainingData
from support.datasets import tiny_dataset
from support.untrained_systems import untrained_system


@pytest.mark.parametrize("overrides", [["melt"], ["cities", "inference.tail_below=null"]])
def test_data_without_a_long_tail_is_refused(overrides: list[str], tmp_path: Path) -> None:
    even = tiny_dataset(tmp_path / "even", [[1, 2, 1, 2], [2, 1, 2, 1]])
    with pytest.raises(ConfigError, match="needs a long tail"):
        untrained_system(even, *overrides).phases(TrainingData(even))


@pytest.mark.parametrize("name", ["melt", "cities"])
def test_the_base_starts_as_the_id_only_system(name: str, dataset: Dataset) -> None:
    plain, system = (
        untrained_system(dataset, "sasrec").state_dict(),
        untrained_system(dataset, name).state_dict(),
    )
    assert all(torch.equal(system[key], value) for key, value in plain.items())
