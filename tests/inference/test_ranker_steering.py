"""Steering is added to standardised scores, whatever the scorer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from seqloom.core.protocols import Scorer
from seqloom.data.sequences import Sequences
from seqloom.inference.ranker import Ranker, standardise

HISTORIES = Sequences.from_lists([[6], [2, 3], []])
POPULARITY = torch.tensor([5, 4, 3, 2, 1, 0])
N = 6
_AWAY = float("-inf")


class Scores:
    """Scores the item number times ten."""

    num_items = N

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        return 10 * torch.arange(1.0, N + 1).repeat(len(items), 1)


class Lists(Scores):
    """Finds two items by itself; refuses to score everything."""

    list_size = 2

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        raise AssertionError("a beam search does not score everything")

    def best(
        self, items: Tensor, lengths: Tensor, k: int, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        scores = super().score(items, lengths)
        if seen is not None:
            scores = torch.nn.functional.pad(scores, (1, 0)).scatter(1, seen, _AWAY)[:, 1:]
        values, at = scores.topk(min(k, 2), 1)
        return at + 1, values

    def score_candidates(self, items: Tensor, lengths: Tensor, candidates: Tensor) -> Tensor:
        return (10.0 * candidates).masked_fill(candidates == 0, _AWAY)

    def exact_scorer(self) -> Scorer:
        return Scores()

    def restrict_to(self, numbers: Tensor) -> Scorer:
        raise NotImplementedError


def ranker(scorer: Scorer) -> Ranker:
    return Ranker(scorer, device=torch.device("cpu"), popularity=POPULARITY)


def test_standardise_leaves_out_what_is_not_finite() -> None:
    scores = torch.tensor([[1.0, 3.0, _AWAY], [2.0, 2.0, 2.0]])
    assert standardise(scores).tolist() == [[-1.0, 1.0, _AWAY], [0.0, 0.0, 0.0]]


def test_the_sum_is_that_of_a_plain_loop() -> None:
    steering = torch.randn(3, N, generator=torch.Generator().manual_seed(0))
    lists = ranker(Scores()).best(HISTORIES, 3, steering=steering)
    for row in range(2):
        scores = np.arange(10.0, 70.0, 10.0)
        total = (scores - scores.mean()) / scores.std() + steering[row].numpy()
        order = np.argsort(-total)[:3]
        assert lists.items[row].tolist() == (order + 1).tolist()
        np.testing.assert_allclose(lists.scores[row].numpy(), total[order], rtol=1e-5)


def test_an_empty_history_is_steered_over_popularity() -> None:
    steering = torch.zeros(3, N)
    steering[2, 5] = 9.0
    lists = ranker(Scores()).best(HISTORIES, 2, steering=steering)
    assert lists.items[2].tolist() == [6, 1]


@pytest.mark.parametrize("scorer", [Scores(), Lists()])
def test_minus_infinity_takes_items_out(scorer: Scorer) -> None:
    steering = torch.full((3, N), _AWAY)
    steering[:, :2] = 0.0
    lists = ranker(scorer).best(HISTORIES, 3, steering=steering)
    assert lists.items[:2].tolist() == [[2, 1, 0], [2, 1, 0]]


def test_a_list_scorer_gets_the_best_by_steering_as_candidates() -> None:
    steering = torch.zeros(3, N)
    steering[:, 0] = 50.0
    lists = ranker(Lists()).best(HISTORIES, 2, steering=steering)
    assert lists.items[0].tolist() == [1, 6]
    hidden = ranker(Lists()).best(HISTORIES, 2, steering=steering, hidden=HISTORIES)
    assert hidden.items[0].tolist() == [1, 5]


@pytest.mark.parametrize("scorer", [Scores(), Lists()])
def test_candidates_stay_candidates(scorer: Scorer) -> None:
    steering = torch.zeros(3, N)
    steering[:, 0] = 50.0
    candidates = [[3, 4, 1], [3, 4], [5, 6]]
    lists = ranker(scorer).best(HISTORIES, 3, candidates=candidates, steering=steering)
    assert lists.items.tolist() == [[1, 4, 3], [4, 3, 0], [5, 6, 0]]
