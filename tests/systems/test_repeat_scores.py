"""The term of items that a history holds, fitted to the share of repeats in the training part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seqloom.data.store import Dataset
from seqloom.nn.repeats import RepeatTerm
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.systems.base import TrainingData
from seqloom.systems.repeat_scores import RepeatScorer, fit_repeats
from support.datasets import looping_dataset, small_config, tiny_dataset

NEW = [[1, 2, 3, 4, 5], [2, 3, 4, 5, 6], [3, 4, 5, 6, 1], [4, 5, 6, 1, 2], [5, 6, 1, 2, 3]]
AGAIN = [[1, 2, 1, 4, 5], [2, 3, 3, 5, 6], [3, 4, 5, 6, 1], [4, 5, 6, 1, 2], [5, 6, 1, 2, 3]]


class Plain:
    """Scores that depend on the history's last item alone."""

    num_items = 6

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Shapes: [B, L], [B] -> [B, 6]."""
        last = items.gather(1, (lengths - 1)[:, None])
        return (torch.arange(6)[None] * 0.37 - 0.61 * last).sin() * 2


def expected_repeats(data: Dataset, term: RepeatTerm) -> float:
    """The mean share that the softmax of the scores puts on items of the training histories."""
    batch = data.train.pad(None)
    scores = RepeatScorer(Plain(), term).score(batch.items, batch.lengths).double()
    shares = []
    for row, history in zip(scores.softmax(1), batch.items.tolist(), strict=True):
        shares.append(sum(float(row[item - 1]) for item in set(history) if item))
    return sum(shares) / len(shares)


@pytest.mark.parametrize("before", [0.0, -0.4, 0.7])
def test_repeats_are_expected_as_often_as_they_occur(before: float, tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", AGAIN)
    assert data.repeat_share > 0
    term = RepeatTerm()
    with torch.no_grad():
        term.recency.add_(before)
    fit_repeats(term, RepeatScorer(Plain(), term), TrainingData(data), None)
    assert expected_repeats(data, term) == pytest.approx(data.repeat_share, abs=1e-5)


def test_without_a_repeat_in_training_no_list_holds_an_item_again(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", NEW)
    assert data.repeat_share == 0
    term = RepeatTerm()
    fit_repeats(term, RepeatScorer(Plain(), term), TrainingData(data), None)
    assert expected_repeats(data, term) == 0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    generator = torch.Generator().manual_seed(3)
    rows = [(torch.randperm(30, generator=generator)[:7] + 1).tolist() for _ in range(40)]
    return tiny_dataset(tmp_path_factory.mktemp("repeats") / "data", rows)


def trained(data: Dataset, system: str, out: Path, **config: Any) -> Path:
    train(data, system, out=out, config={**small_config(system), **config}, device="cpu")
    return out


def test_an_ensemble_ranks_unmasked_as_masked_where_nothing_repeats(
    data: Dataset, tmp_path: Path
) -> None:
    runs = [trained(data, "sasrec", tmp_path / "a"), trained(data, "itemknn", tmp_path / "b")]
    config = {"runs": [str(run) for run in runs]}
    for repeat in ("learned", "none"):
        train(data, "ensemble", out=tmp_path / repeat, config={**config, "repeat": repeat})
    learned, none = (
        {masked: evaluate(tmp_path / repeat, mask_seen=masked).metrics for masked in (True, False)}
        for repeat in ("learned", "none")
    )
    assert learned[False]["mrr"] == learned[True]["mrr"]
    assert none[False]["mrr"] < none[True]["mrr"]
    assert learned[True] == none[True]


def test_an_ensemble_keeps_its_term(data: Dataset, tmp_path: Path) -> None:
    runs = [trained(data, "sasrec", tmp_path / "a"), trained(data, "itemknn", tmp_path / "b")]
    config = {"runs": [str(run) for run in runs], "repeat": "learned"}
    train(data, "ensemble", out=tmp_path / "both", config=config)
    system: Any = load_run(tmp_path / "both").system
    assert float(system.repeats.recency.detach().max()) < -100


def test_views_that_learn_apart_have_a_term_for_their_sum(tmp_path: Path) -> None:
    config = {"repeat": "learned", "encoder": {"hidden_size": 16, "max_len": 20}}
    run = trained(looping_dataset(tmp_path / "d"), "llmesr", tmp_path / "run", **config)
    kept, masked = (evaluate(run, mask_seen=on).metrics for on in (False, True))
    assert kept["mrr"] == masked["mrr"]
    manifest = load_run(run).manifest
    assert manifest.best_phase == "repeats"
    assert manifest.valid["ndcg@10"] > 0
