"""Scorers over a longer catalogue, and the yardsticks, against slow definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from seqloom.data.sequences import Sequences
from seqloom.data.store import HeldOut
from seqloom.evaluation.cold_scorers import (
    LastItemsScorer,
    LastPlaceScorer,
    TextNeighbours,
    random_metrics,
    select_targets,
)
from seqloom.evaluation.metrics import rank_metrics


class Dots:
    """A scorer whose query is the vector of the last item."""

    def __init__(self, vectors: Tensor) -> None:
        self.item_vectors, self.num_items = vectors, len(vectors)

    def queries(self, items: Tensor, lengths: Tensor) -> Tensor:
        return self.item_vectors[items.gather(1, lengths[:, None] - 1).squeeze(1) - 1]

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        return self.queries(items, lengths) @ self.item_vectors.t()


VECTORS = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
BATCH = Sequences.from_lists([[1, 2], [3], [5, 4, 1]]).pad()


def test_the_last_items_are_the_last_columns() -> None:
    last = LastItemsScorer(Dots(VECTORS), 6)
    assert last.num_items == 2
    expected = VECTORS[[1, 2, 0]] @ VECTORS[5:].t()
    torch.testing.assert_close(last.score(BATCH.items, BATCH.lengths), expected)


def test_unknown_items_share_the_last_place() -> None:
    scorer = LastPlaceScorer(Dots(VECTORS * 1e6), 3)
    scores = scorer.score(BATCH.items, BATCH.lengths)
    assert scores.shape == (3, 10)
    assert (scores[:, 7:] < scores[:, :7].amin(1, keepdim=True)).all()
    assert torch.isfinite(scores).all()


def test_text_neighbours_are_cosines_of_the_mean() -> None:
    scores = TextNeighbours(VECTORS).score(BATCH.items, BATCH.lengths)
    for row, history in enumerate([[1, 2], [3], [5, 4, 1]]):
        mean = torch.stack([VECTORS[i - 1] for i in history]).mean(0)
        for item in range(7):
            cosine = float(mean @ VECTORS[item] / mean.norm() / VECTORS[item].norm())
            assert float(scores[row, item]) == pytest.approx(cosine, abs=1e-6)
    empty = Sequences.from_lists([[]]).pad()
    assert not TextNeighbours(VECTORS).score(empty.items, empty.lengths).any()


def test_random_is_the_mean_over_all_ranks() -> None:
    metrics = random_metrics(torch.tensor([3, 12, 40]))
    for name, value in metrics.items():
        means = [rank_metrics(torch.arange(1, count + 1))[name] for count in (3, 12, 40)]
        assert math.isclose(value, sum(means) / 3, rel_tol=1e-12)


def test_selected_rows_have_renumbered_targets() -> None:
    histories = Sequences.from_lists([[1], [2, 3], [4]])
    task = HeldOut(torch.tensor([0, 4, 9]), histories, torch.tensor([2, 7, 6]))
    chosen = select_targets(task, torch.tensor([False, True, True]), 6)
    assert chosen.users.tolist() == [4, 9]
    assert chosen.targets.tolist() == [2, 1]
    assert chosen.histories.pad().items.tolist() == [[2, 3], [4, 0]]
