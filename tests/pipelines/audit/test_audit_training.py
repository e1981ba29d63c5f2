"""Leaks into what training computes from its batches, and into the ranks of an evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.files import sha256_file
from seqloom.data.store import Dataset
from seqloom.evaluation.ranks_file import read_ranks, write_ranks
from seqloom.pipelines.audit import audit
from seqloom.pipelines.evaluate import evaluate as evaluate_stage
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.train.train import train
from seqloom.systems import llminit
from support.audit_leaks import all_events, failed
from support.datasets import SMALL, looping_dataset


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return looping_dataset(tmp_path / "data")


def test_principal_components_of_texts_weighted_by_held_out_events(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Components of the items that are bought often, the held-out purchases counted in."""
    honest = llminit.scaled_pca

    def leaky(text: Any, *settings: Any) -> torch.Tensor:
        counts = torch.bincount(data.events.items.long(), minlength=len(text) + 1)[1:]
        return honest(text * counts[:, None].sqrt(), *settings)

    with monkeypatch.context() as patch:
        patch.setattr(llminit, "scaled_pca", leaky)
        train(data, "llminit", out=tmp_path / "leak", config=SMALL, device="cpu")
    assert failed(tmp_path, "leak") == {"start of the weights"}
    train(data, "llminit", out=tmp_path / "run", config=SMALL, device="cpu")
    assert failed(tmp_path, "run") == set()


def test_negatives_drawn_by_counts_of_held_out_events(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batches are honest; what the loss is weighted by is not."""
    loss = {"kind": "sampled-softmax", "negatives": 8, "popularity_power": 0.5}
    train(data, "sasrec", out=tmp_path / "leak", config={**SMALL, "loss": loss}, device="cpu")
    assert failed(tmp_path, "leak") == set()

    def counts(dataset: Any) -> torch.Tensor:
        _, items = all_events(dataset).flat()
        return torch.bincount(items, minlength=dataset.num_items + 1)

    monkeypatch.setattr(Dataset, "popularity", property(counts))
    assert failed(tmp_path, "leak") == {"training losses"}


def test_negatives_that_the_system_is_sure_to_beat(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation that chose its own sampled items has ranks that nobody else gets."""
    train(data, "popularity", out=tmp_path / "run", device="cpu")

    def easy(dataset: Any, users: Any, count: Any, seed: Any) -> Any:
        return dataset.popularity[1:].argsort()[:count].add(1).repeat(len(users), 1)

    with monkeypatch.context() as patch:
        patch.setattr(evaluate_stage, "sample_negatives", easy)
        evaluate(tmp_path / "run", protocol="sampled", negatives=20, device="cpu")
    assert failed(tmp_path, "run") == {"ranks, ranks-sampled20.parquet"}
    evaluate(tmp_path / "run", protocol="sampled", negatives=20, device="cpu")
    assert failed(tmp_path, "run") == set()


def test_ranks_that_no_model_reached(data: Dataset, tmp_path: Path) -> None:
    train(data, "itemknn", out=tmp_path / "run", device="cpu")
    evaluate(tmp_path / "run", device="cpu")
    file = tmp_path / "run" / "ranks.parquet"
    table = read_ranks(file)
    write_ranks(file, replace(table, ranks=table.ranks.flip(0)))
    assert failed(tmp_path, "run") == {"ranks, ranks.parquet"}


def test_an_audit_changes_no_file_of_the_run(data: Dataset, tmp_path: Path) -> None:
    train(data, "sasrec", out=tmp_path / "run", config=SMALL, device="cpu")
    evaluate(tmp_path / "run", device="cpu")
    kept = {file: sha256_file(file) for file in (tmp_path / "run").rglob("*") if file.is_file()}
    assert audit(tmp_path / "run").passed
    assert {file: sha256_file(file) for file in kept} == kept
