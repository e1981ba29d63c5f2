"""Ranks against a slow loop, and what does not compete."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.core.batching import RankingLimits
from seqloom.core.errors import TrainingError
from seqloom.data.sequences import Sequences
from seqloom.data.store import HeldOut
from seqloom.evaluation import ranking
from seqloom.evaluation.metrics import MISSED
from support.datasets import ranked


class TableScorer:
    """Looks the scores of a history up by its first item."""

    def __init__(self, table: torch.Tensor) -> None:
        self.table = table
        self.num_items = table.shape[1]

    def score(self, items: Any, lengths: Any) -> torch.Tensor:
        return self.table[items[:, 0]].clone()


def held_out(histories: list[list[int]], targets: list[Any]) -> HeldOut:
    users = torch.arange(len(targets))
    return HeldOut(users, Sequences.from_lists(histories), torch.tensor(targets))


def slow_rank(scores: torch.Tensor, history: Any, target: Any, masked: Any) -> int:
    if masked and target in history:
        return MISSED
    rank = 1
    for item, score in enumerate(scores.tolist(), start=1):
        if item == target or (masked and item in history):
            continue
        rank += score >= scores[target - 1].item()
    return rank


@settings(max_examples=60, deadline=None)
@given(st.data(), st.booleans())
def test_ranks_equal_the_loop(data: Any, masked: Any) -> None:
    items = data.draw(st.integers(2, 12))
    rows = data.draw(st.integers(1, 9))
    values = st.integers(-3, 3)  # few values, many ties
    one = st.lists(values, min_size=items, max_size=items)
    rows_of_scores = data.draw(st.lists(one, min_size=items + 1, max_size=items + 1))
    table = torch.tensor(rows_of_scores, dtype=torch.float32)
    item = st.integers(1, items)
    histories = data.draw(
        st.lists(st.lists(item, min_size=1, max_size=5), min_size=rows, max_size=rows)
    )
    targets = data.draw(st.lists(item, min_size=rows, max_size=rows))
    actual = ranked(TableScorer(table), held_out(histories, targets), mask_seen=masked)
    expected = [
        slow_rank(table[h[0]], h, t, masked) for h, t in zip(histories, targets, strict=True)
    ]
    assert actual.ranks.tolist() == expected


def test_chunks_do_not_change_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    table = torch.randn(31, 30)
    histories = [[1 + i % 30] * (1 + i % 4) for i in range(50)]
    task = held_out(histories, [1 + (7 * i) % 30 for i in range(50)])
    whole = ranked(TableScorer(table), task, list_length=5)
    monkeypatch.setattr(ranking, "EVALUATION_LIMITS", RankingLimits(scores=90, cells=90))
    parts = ranked(TableScorer(table), task, list_length=5)
    assert torch.equal(whole.ranks, parts.ranks)
    assert torch.equal(whole.lists, parts.lists)


def test_lists_hold_the_best_unseen_items() -> None:
    table = torch.tensor([[0.0] * 4, [4.0, 3.0, 2.0, 1.0]])
    actual = ranked(TableScorer(table), held_out([[1, 3]], [4]), list_length=3)
    assert actual.lists.tolist() == [[2, 4, 0]]
    assert actual.ranks.tolist() == [2]


def test_a_seen_target_is_a_miss_under_either_protocol_when_masked() -> None:
    table = torch.tensor([[0.0] * 3, [1.0, 5.0, 2.0]])
    task, negatives = held_out([[1, 2]], [2]), torch.tensor([[3]])
    for among in (None, negatives):
        actual = ranked(TableScorer(table), task, negatives=among)
        assert actual.ranks.tolist() == [MISSED]
        kept = ranked(TableScorer(table), task, negatives=among, mask_seen=False)
        assert kept.ranks.tolist() == [1]


def test_ties_in_a_list_are_broken_by_key() -> None:
    table = torch.tensor([[0.0] * 5, [1.0, 3.0, 3.0, 3.0, 0.0]])
    task, keys = held_out([[1]], [5]), torch.tensor([0, 30, 10, 20, 5])
    assert ranked(TableScorer(table), task, list_length=2, keys=keys).lists.tolist() == [[3, 4]]
    assert ranked(TableScorer(table), task, list_length=3, keys=-keys).lists.tolist() == [[2, 4, 3]]


def test_sampled_ranks_count_the_given_items_alone() -> None:
    table = torch.tensor([[0.0] * 5, [1.0, 9.0, 3.0, 3.0, 0.0]])
    negatives = torch.tensor([[4, 5, 0]])  # item 2 would win, but was not drawn; 0 is none
    actual = ranked(TableScorer(table), held_out([[1]], [3]), negatives=negatives)
    assert actual.ranks.tolist() == [2]


def test_scores_that_are_not_finite_are_refused() -> None:
    table = torch.tensor([[0.0, 0.0], [1.0, float("nan")]])
    with pytest.raises(TrainingError, match="not finite"):
        ranked(TableScorer(table), held_out([[1]], [1]))
