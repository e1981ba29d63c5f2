"""A small data set with text, and every registered system trained on it for a moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from seqloom.data.store import Dataset
from seqloom.systems.registry import names
from support.datasets import looping_dataset, small_config

SYSTEMS = names()


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Small histories with text."""
    return looping_dataset(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="session")
def members(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The folders of three trained runs, to be combined."""
    from seqloom.pipelines.train.train import train

    folder = tmp_path_factory.mktemp("members")
    for system in ("sasrec", "gru4rec", "itemknn"):
        train(dataset, system, out=folder / system, config=small_config(system), device="cpu")
    return {path.name: str(path) for path in sorted(folder.iterdir())}


@pytest.fixture(scope="session")
def configured(members: dict[str, str]) -> Callable[..., Any]:
    """Builds, for a system's name, a configuration under which it trains in a moment."""

    def config(system: str) -> dict:
        if system == "ensemble":  # few candidates, so that others are drawn
            return {"runs": list(members.values()), "candidates": 10, "others": 1}
        return small_config(system)

    return config


@pytest.fixture(scope="session", params=SYSTEMS)
def trained(
    request: pytest.FixtureRequest,
    dataset: Dataset,
    configured: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """The folder of a run of each system."""
    from seqloom.pipelines.train.train import train

    out = tmp_path_factory.mktemp("runs") / request.param
    train(dataset, request.param, out=out, config=configured(request.param), device="cpu")
    return out
