"""Ranking with seen items masked and kept from one pass equals two passes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.core.batching import RankingLimits
from seqloom.data.sequences import Sequences
from seqloom.data.store import HeldOut
from seqloom.evaluation import ranking
from support.datasets import ranked


class TableScorer:
    """Row h of a table is the scores after a history that begins with item h."""

    def __init__(self, table: torch.Tensor) -> None:
        self.num_items = table.shape[1]
        self._table = table

    def score(self, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return self._table[items[:, 0]].clone()


def held_out(histories: list[list[int]], targets: list[int]) -> HeldOut:
    users = torch.arange(len(targets))
    return HeldOut(users, Sequences.from_lists(histories), torch.tensor(targets))


@settings(max_examples=80, deadline=None)
@given(st.data(), st.booleans(), st.booleans())
def test_both_equal_two_passes(data: st.DataObject, masked: bool, keyed: bool) -> None:
    items = data.draw(st.integers(2, 12))
    rows = data.draw(st.integers(1, 9))
    one = st.lists(st.integers(-2, 2), min_size=items, max_size=items)  # many ties
    table = torch.tensor(data.draw(st.lists(one, min_size=items + 1, max_size=items + 1))).float()
    item = st.integers(1, items)
    histories = data.draw(
        st.lists(st.lists(item, min_size=1, max_size=6), min_size=rows, max_size=rows)
    )
    task = held_out(histories, data.draw(st.lists(item, min_size=rows, max_size=rows)))
    # Without keys, of equal scores any may be listed.
    keys = torch.randperm(items) if keyed else None
    if not keyed:
        table += torch.rand(table.shape) / 10
    options = {"list_length": data.draw(st.integers(0, items + 2)), "keys": keys}
    found = ranked(TableScorer(table), task, mask_seen=masked, both=True, **options)
    assert found.other is not None
    for mine, decision in ((found, masked), (found.other, not masked)):
        alone = ranked(TableScorer(table), task, mask_seen=decision, **options)
        assert alone.other is None
        assert mine.ranks.tolist() == alone.ranks.tolist()
        assert mine.lists.tolist() == alone.lists.tolist()


def test_blocks_do_not_change_either_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    histories = [[1 + i % 30] * (1 + i % 4) + [5, 9][: i % 3] for i in range(50)]
    task = held_out(histories, [1 + (7 * i) % 30 for i in range(50)])
    scorer = TableScorer(torch.randn(31, 30))
    whole = ranked(scorer, task, list_length=5, both=True)
    monkeypatch.setattr(ranking, "EVALUATION_LIMITS", RankingLimits(scores=90, cells=90))
    parts = ranked(scorer, task, list_length=5, both=True)
    for first, second in ((whole, parts), (whole.other, parts.other)):
        assert first is not None
        assert second is not None
        assert torch.equal(first.ranks, second.ranks)
        assert torch.equal(first.lists, second.lists)


def test_users_without_a_history_rank_alike_in_both() -> None:
    task = held_out([[], [2]], [1, 2])
    found = ranked(TableScorer(torch.rand(4, 3)), task, both=True, list_length=2)
    assert found.other is not None
    assert found.ranks[0] == found.other.ranks[0]
    assert found.lists[0].tolist() == found.other.lists[0].tolist()


class Lists(TableScorer):
    """A scorer that lists items."""

    list_size = 2

    def best(self, items, lengths, k, seen=None):  # type: ignore[no-untyped-def]
        scores = self.score(items, lengths)
        values, columns = scores.topk(min(k, self.num_items), dim=1)
        return columns + 1, values

    def score_candidates(self, items, lengths, candidates):  # type: ignore[no-untyped-def]
        return self.score(items, lengths).gather(1, candidates - 1)

    def exact_scorer(self) -> TableScorer:
        return self

    def restrict_to(self, numbers: torch.Tensor) -> TableScorer:
        return self


def test_a_scorer_that_lists_has_one_ranking() -> None:
    found = ranked(Lists(torch.rand(4, 3)), held_out([[1]], [2]), both=True, list_length=2)
    assert found.other is None
