"""Neighbours by text, against the same by plain numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf

from seqloom.core.protocols import NewItems
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import Run, load_run
from seqloom.text.store import load_embeddings

HISTORIES = [[3], [1, 2, 9], [40, 7, 7, 12, 5]]


def made(dataset: Dataset, folder: Path, **config: Any) -> Run:
    train(dataset, "textknn", out=folder, config=config, device="cpu")
    return load_run(folder)


def expected(text: np.ndarray, decay: float | int, whitening: Any, kept: Any) -> np.ndarray:
    """Scores of HISTORIES, from scikit-learn's shrunk covariance."""
    variances, axes = np.linalg.eigh(ledoit_wolf(text)[0])
    rows = (text - text.mean(0)) @ axes * variances ** (-whitening / 2)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    scores = []
    for history in HISTORIES:
        weighted = [
            decay**age * rows[item - 1] for age, item in enumerate(history[: -kept - 1 : -1])
        ]
        scores.append(rows @ np.sum(weighted, axis=0))
    return np.stack(scores)


@pytest.mark.parametrize(
    "config",
    [{}, {"whitening": 0.0, "decay": 1.0}, {"whitening": 1.0, "decay": 0.3}, {"max_len": 2}],
)
def test_scores_are_weighted_cosines_in_the_whitened_space(
    dataset: Dataset, tmp_path: Path, config: dict[str, float] | dict[str, int]
) -> None:
    run = made(dataset, tmp_path / "run", **config)
    text = load_embeddings(dataset).items.double().numpy()
    reported = {"decay": 0.6, "whitening": 0.75, "max_len": 50} | config
    want = expected(text, reported["decay"], reported["whitening"], reported["max_len"])
    batch = Sequences.from_lists(HISTORIES).pad(run.system.max_len)
    actual = run.scorer.score(batch.items, batch.lengths)
    np.testing.assert_allclose(actual.numpy(), want, atol=2e-5)


def test_a_new_item_stands_where_its_text_does(dataset: Dataset, tmp_path: Path) -> None:
    run: Any = made(dataset, tmp_path / "run")
    text = load_embeddings(dataset).items[[4, 11]]
    new = NewItems(["x", "y"], dataset.items.slice(0, 2), text)
    rows: Any = run.system.rows_of(lambda: pytest.fail("nothing has to be fitted"))(
        new, run.item_tables
    )
    torch.testing.assert_close(rows.tables["vectors"], run.system.vectors[[4, 11]])


def test_an_empty_history_is_near_to_nothing(dataset: Dataset, tmp_path: Path) -> None:
    run = made(dataset, tmp_path / "run")
    nobody = Sequences.from_lists([[]]).pad(4)
    assert not run.scorer.score(nobody.items, nobody.lengths).any()
