"""ItemKNN against loops over users and items."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from seqloom.data.sequences import Sequences
from seqloom.systems import itemknn
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.itemknn import ItemKNN, ItemKNNConfig, nearest_items
from support.datasets import tiny_dataset

HISTORIES = [[1, 2, 3, 1], [2, 3], [3, 4, 2], [1, 5], [5, 1, 2], [4]]
NUM_ITEMS = 6  # item 6 has no event


def slow_similarity(a: int, b: int, shrinkage: float) -> float:
    users = [set(history) for history in HISTORIES]
    both = sum(a in user and b in user for user in users)
    product = sum(a in user for user in users) * sum(b in user for user in users)
    return both / (math.sqrt(product) + shrinkage) if both else 0.0


@pytest.mark.parametrize("columns_at_once", [2, 2048])
@pytest.mark.parametrize("shrinkage", [0.0, 5.0])
def test_neighbours_are_those_of_the_loops(
    shrinkage: float, columns_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(itemknn, "_COLUMNS_AT_ONCE", columns_at_once)
    keys = torch.tensor([5, 3, 4, 1, 2, 0])
    rows, values = nearest_items(Sequences.from_lists(HISTORIES), keys, 3, shrinkage)
    for item in range(1, NUM_ITEMS + 1):
        others = [
            (slow_similarity(item, b, shrinkage), b) for b in range(1, NUM_ITEMS + 1) if b != item
        ]
        ranked = sorted((-s, int(keys[b - 1]), b, s) for s, b in others if s > 0)[:3]
        expected = [(b - 1, s) for _, _, b, s in ranked] + [(0, 0.0)] * (3 - len(ranked))
        assert rows[item - 1].tolist() == [row for row, _ in expected]
        assert values[item - 1].tolist() == pytest.approx([s for _, s in expected])


def test_scores_add_similarities_with_recent_items_heavier(tmp_path: Path) -> None:
    # A data set whose training part is HISTORIES: two more events of each user are held out.
    dataset = tiny_dataset(tmp_path / "data", [[*row, 6, 6] for row in HISTORIES])
    config = ItemKNNConfig(shrinkage=1.0, decay=0.5, neighbours=5)
    system = ItemKNN(config, Sizes(num_items=NUM_ITEMS))
    system.initialise(TrainingData(dataset))
    scores = system.scorer().score(torch.tensor([[1, 4, 0], [2, 0, 0]]), torch.tensor([2, 1]))
    for item in range(1, NUM_ITEMS + 1):
        older = slow_similarity(1, item, 1.0) if item != 1 else 0.0
        newer = slow_similarity(4, item, 1.0) if item != 4 else 0.0
        only = slow_similarity(2, item, 1.0) if item != 2 else 0.0
        assert float(scores[0, item - 1]) == pytest.approx(0.5 * older + newer)
        assert float(scores[1, item - 1]) == pytest.approx(only)
