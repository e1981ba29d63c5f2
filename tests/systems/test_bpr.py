"""BPR: its loss and folding in against plain calculations, its negatives, and what it learns."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.data.store import Dataset
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.bpr import BPR, BPRConfig, FoldInScorer, PairBatch, PairPhase
from support.datasets import tiny_dataset

HISTORIES = [[1, 2, 3, 1, 4], [2, 4, 5, 6], [1, 2, 3, 4, 5], [6, 5, 3]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return tiny_dataset(tmp_path_factory.mktemp("bpr") / "data", HISTORIES)


def started(dataset: Dataset, **keys: object) -> tuple[BPR, PairPhase]:
    config = BPRConfig.build({"hidden_size": 3, "batch_size": 4, **keys})
    system = BPR(config, Sizes(num_items=dataset.num_items))
    data = TrainingData(dataset)
    torch.manual_seed(0)
    system.initialise(data)
    (phase,) = system.phases(data)
    assert isinstance(phase, PairPhase)
    return system, phase


def test_the_loss_is_that_of_the_paper(dataset: Dataset) -> None:
    system, phase = started(dataset, penalty=0.1)
    batch = PairBatch(*(torch.tensor(part) for part in ([0, 2], [1, 3], [6, 6])))
    with torch.no_grad():
        parts = phase.loss(batch)
    assert system.users is not None
    users, items = system.users.detach().numpy(), system.items.detach().numpy()
    ranked, norms = [], []
    for user, item, other in ((0, 1, 6), (2, 3, 6)):
        u, i, j = users[user], items[item - 1], items[other - 1]
        ranked.append(-math.log(1 / (1 + math.exp(-(u @ i - u @ j)))))
        norms.append(u @ u + i @ i + j @ j)
    assert float(parts["rank"].value) == pytest.approx(np.mean(ranked), rel=1e-5)
    assert float(parts["penalty"].value) == pytest.approx(0.1 * np.mean(norms), rel=1e-5)
    assert parts["rank"].count == 2


def test_every_event_is_a_pair_once_an_epoch_and_no_negative_is_the_users(dataset: Dataset) -> None:
    _, phase = started(dataset)
    owner, items = dataset.train.flat()
    held = {(int(u), int(i)) for u, i in zip(owner, items, strict=True)}
    drawn = set()
    for epoch in range(40):
        steps = phase.steps(epoch)
        batches = [steps[step] for step in range(len(steps))]
        pairs = sorted(
            (int(u), int(i)) for b in batches for u, i in zip(b.users, b.items, strict=True)
        )
        assert pairs == sorted((int(u), int(i)) for u, i in zip(owner, items, strict=True))
        negatives = {
            (int(u), int(j)) for b in batches for u, j in zip(b.users, b.negatives, strict=True)
        }
        assert not negatives & held
        drawn |= negatives
    users = {user for user, _ in held}
    whole = {(u, j) for u in users for j in range(1, dataset.num_items + 1)}
    assert drawn == whole - held  # each item that a user lacks is drawn sooner or later


def test_equal_calls_give_equal_batches_and_epochs_differ(dataset: Dataset) -> None:
    _, phase = started(dataset)
    one, again, next_epoch = phase.steps(0)[0], phase.steps(0)[0], phase.steps(1)[0]
    assert torch.equal(one.negatives, again.negatives)
    assert torch.equal(one.users, again.users)
    assert not (
        torch.equal(one.users, next_epoch.users) and torch.equal(one.items, next_epoch.items)
    )


def test_a_history_is_folded_in_by_ridge_regression() -> None:
    vectors = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    scorer = FoldInScorer(vectors, fold_in=0.7)
    items = torch.tensor([[1, 4, 4, 6], [3, 0, 0, 0], [0, 0, 0, 0]])
    found = scorer.queries(items, torch.tensor([4, 1, 0]))
    for row, history in enumerate(([1, 4, 4, 6], [3])):
        table = vectors[[item - 1 for item in history]].double().numpy()
        stacked = np.vstack([table, math.sqrt(0.7) * np.eye(3)])
        wanted = np.concatenate([np.ones(len(history)), np.zeros(3)])
        solution = np.linalg.lstsq(stacked, wanted, rcond=None)[0]
        np.testing.assert_allclose(found[row].numpy(), solution, rtol=1e-5)
    assert torch.equal(found[2], torch.zeros(3))
    torch.testing.assert_close(
        scorer.score(items, torch.tensor([4, 1, 0])), found @ vectors.T, rtol=0, atol=0
    )


def test_users_of_two_tastes_are_told_apart(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(5)
    rows = [
        (torch.randperm(12, generator=draw)[:8] + 1 + 12 * (user % 2)).tolist()
        for user in range(60)
    ]
    data = tiny_dataset(tmp_path / "data", rows)
    train(
        data,
        "bpr",
        out=tmp_path / "run",
        config={"hidden_size": 8, "epochs": 30, "batch_size": 64},
        device="cpu",
    )
    run = load_run(tmp_path / "run")
    assert "users" not in run.system.state_dict()
    scores = run.scorer.score(torch.tensor([[1, 2, 3], [13, 14, 15]]), torch.tensor([3, 3]))
    assert set(scores[0].topk(12).indices.tolist()) == set(range(12))
    assert set(scores[1].topk(12).indices.tolist()) == set(range(12, 24))


def test_users_of_all_items_have_no_pair(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "some", [[1, 2, 3, 1, 2], [1, 2, 1, 3]])
    _, phase = started(data)
    owner, _ = data.train.flat()
    assert set(phase.users.tolist()) == {1}
    assert set(owner.tolist()) == {0, 1}
    alone = tiny_dataset(tmp_path / "all", [[1, 2, 1, 2]] * 4)
    with pytest.raises(ConfigError, match=r"all 2 items there.*--system itemknn"):
        started(alone)
