"""Ranks of a scorer that lists the best items, against those of one that scores all."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seqloom.core.errors import TrainingError
from seqloom.core.protocols import ListScorer
from seqloom.data.sequences import Sequences
from seqloom.data.store import HeldOut
from seqloom.evaluation.metrics import MISSED
from support.datasets import ranked

HISTORIES = [[1, 2, 3, 1], [4], [5, 6, 7, 8, 9, 10], [2, 12]]
TARGETS = [4, 4, 11, 3]  # user 1 has seen its target
SCORES = torch.rand(4, 12, generator=torch.Generator().manual_seed(0))
HELD_OUT = HeldOut(torch.arange(4), Sequences.from_lists(HISTORIES), torch.tensor(TARGETS))


class All:
    """Scores a user by the last item of the history."""

    num_items = 12

    def score(self, items: Any, lengths: Any) -> torch.Tensor:
        last = items.gather(1, (lengths - 1)[:, None])[:, 0].tolist()
        return torch.stack([SCORES[[row[-1] for row in HISTORIES].index(i)] for i in last]).clone()


class Lists(All):
    def __init__(self, list_size: int) -> None:
        self.list_size = list_size

    def best(
        self, items: Any, lengths: Any, k: Any, seen: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.score(items, lengths)
        if seen is not None:
            for row, actual in enumerate(seen.tolist()):
                scores[row, [i - 1 for i in actual if i]] = float("-inf")
        top = scores.topk(k, dim=1)
        return (top.indices + 1).masked_fill(top.values == float("-inf"), 0), top.values

    def score_candidates(self, items: Any, lengths: Any, candidates: Any) -> torch.Tensor:
        return self.score(items, lengths).gather(1, (candidates - 1).clamp(min=0))

    def exact_scorer(self) -> All:
        return All()

    def restrict_to(self, numbers: Any) -> None:
        raise NotImplementedError("ranking the catalogue asks for lists alone")


@pytest.mark.parametrize("mask_seen", [True, False])
def test_a_list_of_everything_gives_the_ranks_of_scores(mask_seen: bool) -> None:
    assert isinstance(Lists(12), ListScorer)
    assert not isinstance(All(), ListScorer)
    options = {"max_len": 3, "mask_seen": mask_seen, "list_length": 5}
    expected = ranked(All(), HELD_OUT, **options)
    actual = ranked(Lists(12), HELD_OUT, **options)
    assert torch.equal(actual.ranks, expected.ranks)
    assert torch.equal(actual.lists, expected.lists)
    assert not (mask_seen and 4 in actual.lists[1])  # the target that user 1 has seen


@pytest.mark.parametrize("mask_seen", [True, False])
def test_a_target_in_no_list_has_the_last_rank(mask_seen: bool) -> None:
    expected = ranked(All(), HELD_OUT, mask_seen=mask_seen).ranks
    actual = ranked(Lists(2), HELD_OUT, mask_seen=mask_seen).ranks
    last = torch.tensor([12 - len(set(row)) if mask_seen else 12 for row in HISTORIES])
    if mask_seen:
        last[1] = MISSED
        assert not expected[1] < MISSED
    assert torch.equal(actual, torch.where(expected <= 2, expected, last))
    assert (actual == last).any()


def test_negatives_are_ranked_by_scores() -> None:
    negatives = torch.tensor([[5, 6], [1, 2], [1, 2], [4, 5]])
    actual = ranked(Lists(2), HELD_OUT, negatives=negatives)
    assert torch.equal(actual.ranks, ranked(All(), HELD_OUT, negatives=negatives).ranks)
    assert (actual.ranks == MISSED).tolist() == [False, True, False, False]


def test_scores_that_are_no_numbers_stop_the_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(All, "score", lambda self, i, n: torch.full((len(i), 12), float("nan")))
    with pytest.raises(TrainingError, match="not finite"):
        ranked(Lists(3), HELD_OUT)
