"""Lists from scorers of every kind; `tests/contracts/test_same_lists.py` has those of whole runs."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from seqloom.core.protocols import Scorer
from seqloom.data.popularity_scores import popularity_scores
from seqloom.data.sequences import Sequences
from seqloom.data.store import HeldOut
from seqloom.evaluation.ranking import rank_targets
from seqloom.inference.ranker import Ranker, best_items

COUNTS = torch.tensor([3, 7, 0, 7, 1, 0])  # so the order is 2 and 4 alike, 1, 5, then 3 and 6 alike
KEYS = torch.tensor([5, 9, 3, 8, 1, 2])  # which put 4 before 2, and 6 before 3
ORDER = [4, 2, 1, 5, 6, 3]


class Rising:
    """Scores the item number; must never be asked about an empty history."""

    num_items = 6

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        assert (lengths > 0).all()
        return torch.arange(1.0, 7.0).repeat(len(items), 1)


class RisingLists(Rising):
    """The same as lists."""

    list_size = 6

    def best(
        self, items: Tensor, lengths: Tensor, k: int, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        scores = self.score(items, lengths)
        if seen is not None:
            scores = torch.cat([torch.zeros(len(items), 1), scores], 1)
            scores = scores.scatter(1, seen, float("-inf"))[:, 1:]
        top = scores.topk(k, dim=1)
        return (top.indices + 1).masked_fill(top.values == float("-inf"), 0), top.values

    def score_candidates(self, items: Tensor, lengths: Tensor, candidates: Tensor) -> Tensor:
        assert (lengths > 0).all()
        return candidates.double().masked_fill(candidates == 0, -torch.inf)

    def exact_scorer(self) -> Scorer:
        return Rising()

    def restrict_to(self, numbers: Tensor) -> Scorer:
        raise NotImplementedError


class Vectors:
    """A dot product of the mean of a history's vectors; counts its calls."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(0)
        self.item_vectors = torch.randn(50, 8, generator=draw)
        self.num_items = 50
        self.widths: list[int] = []

    def queries(self, items: Tensor, lengths: Tensor) -> Tensor:
        self.widths.append(items.shape[1])
        vectors = torch.nn.functional.pad(self.item_vectors, (0, 0, 1, 0))[items]
        return vectors.sum(1) / lengths[:, None]

    def score_queries(self, queries: Tensor) -> Tensor:
        return queries @ self.item_vectors.t()

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        return self.score_queries(self.queries(items, lengths))


SCORERS = pytest.mark.parametrize("scorer", [Rising(), RisingLists()])
HISTORIES = Sequences.from_lists([[], [6], [], []])
HELD_OUT = HeldOut(torch.arange(4), HISTORIES, torch.tensor([2, 5, 5, 3]))


def ranker_of(scorer: Scorer) -> Ranker:
    return Ranker(scorer, device=torch.device("cpu"), keys=KEYS, popularity=COUNTS)


@SCORERS
def test_only_an_empty_history_gets_popular_items(scorer: Scorer) -> None:
    lists = ranker_of(scorer).best(HISTORIES, 6)
    assert lists.items.tolist() == [ORDER, [6, 5, 4, 3, 2, 1], ORDER, ORDER]
    assert lists.scores[1].tolist() == [6, 5, 4, 3, 2, 1]
    assert lists.scores[0].tolist() == popularity_scores(COUNTS).sort(descending=True)[0].tolist()


@SCORERS
def test_lists_leave_hidden_items_out_and_end_where_no_more_are_left(scorer: Scorer) -> None:
    hidden = Sequences.from_lists([[4], [6, 1], [2, 2], []])
    lists = ranker_of(scorer).best(HISTORIES, 8, hidden=hidden)
    assert lists.items.tolist() == [
        [2, 1, 5, 6, 3, 0, 0, 0],
        [5, 4, 3, 2, 0, 0, 0, 0],
        [4, 1, 5, 6, 3, 0, 0, 0],
        [*ORDER, 0, 0],
    ]
    assert torch.equal(lists.scores == -torch.inf, lists.items == 0)


@SCORERS
def test_removed_items_are_in_no_list(scorer: Scorer) -> None:
    ranker = dataclasses.replace(ranker_of(scorer), removed=torch.tensor([2, 5]))
    lists = ranker.best(HISTORIES, 3, hidden=HISTORIES)
    assert lists.items.tolist() == [[4, 1, 6], [4, 3, 1], [4, 1, 6], [4, 1, 6]]
    candidates = [[2, 3, 1], [6, 5, 1], [5], []]
    lists = ranker.best(HISTORIES, 2, hidden=HISTORIES, candidates=candidates)
    assert lists.items.tolist() == [[1, 3], [1, 0], [0, 0], [0, 0]]


@SCORERS
def test_candidates_are_ranked_alone_and_their_ties_broken_by_key(scorer: Scorer) -> None:
    candidates = [[3, 6, 2, 4, 4], [1, 5, 5, 2], [], [3]]
    lists = ranker_of(scorer).best(HISTORIES, 4, candidates=candidates)
    assert lists.items.tolist() == [[4, 2, 6, 3], [5, 2, 1, 0], [0] * 4, [3, 0, 0, 0]]


@SCORERS
def test_no_history_gives_no_list(scorer: Scorer) -> None:
    lists = ranker_of(scorer).best(Sequences.from_lists([]), 3)
    assert (lists.items.shape, lists.scores.shape) == ((0, 3), (0, 3))


def test_without_popularity_the_scorer_reads_empty_histories() -> None:
    ranker = dataclasses.replace(ranker_of(Rising()), popularity=None)
    with pytest.raises(AssertionError):
        ranker.best(HISTORIES, 3)


def test_items_behind_the_popularity_count_nothing() -> None:
    ranker = dataclasses.replace(ranker_of(Rising()), popularity=COUNTS[:4])
    assert ranker.best(Sequences.from_lists([[]]), 6).items.tolist() == [[4, 2, 1, 5, 6, 3]]


def test_histories_of_different_lengths_are_encoded_apart_and_ranked_in_their_order() -> None:
    histories = Sequences.from_lists([[1] * 40, [2], [3] * 39, [4, 5], [], [6] * 3])
    whole = Ranker(Vectors(), device=torch.device("cpu"), popularity=torch.arange(50))
    apart = dataclasses.replace(whole, call_cost=4)
    assert torch.equal(whole.best(histories, 7).items, apart.best(histories, 7).items)
    assert isinstance(whole.scorer, Vectors)
    assert whole.scorer.widths == [40, 3, 40]


def test_the_longest_history_is_what_the_scorer_reads_and_all_of_it_is_hidden() -> None:
    ranker = Ranker(Vectors(), device=torch.device("cpu"), max_len=2)
    short, long = Sequences.from_lists([[8, 9]]), Sequences.from_lists([[1, 2, 3, 8, 9]])
    assert torch.equal(ranker.best(short, 50).items, ranker.best(long, 50).items)
    lists = ranker.best(long, 50, hidden=long)
    assert int((lists.items > 0).sum()) == 45


def test_the_best_items_of_scores_tie_by_key() -> None:
    scores = torch.tensor([[1.0, 3.0, 3.0, 3.0, -torch.inf]])
    keys = torch.tensor([0, 30, 10, 20, 5])
    assert best_items(scores, 2, keys).items.tolist() == [[3, 4]]
    assert best_items(scores, 6, -keys).items.tolist() == [[2, 4, 3, 1, 0, 0]]


@SCORERS
def test_ranks_and_lists_are_those_of_popularity(scorer: Scorer) -> None:
    ranks = rank_targets(scorer, HELD_OUT, popularity=COUNTS, list_length=4, keys=KEYS)
    # 2 ties with 4, which counts against it; 5 is first once 6 is masked; 5 is fourth; 3 ties with 6.
    assert ranks.ranks.tolist() == [2, 1, 4, 6]
    assert ranks.lists.tolist() == [ORDER[:4], [5, 4, 3, 2], ORDER[:4], ORDER[:4]]
    short = rank_targets(scorer, HELD_OUT, popularity=COUNTS, list_length=1, keys=KEYS)
    assert short.ranks.tolist() == ranks.ranks.tolist()  # whoever is in the list
    assert short.lists.tolist() == [[4], [5], [4], [4]]


@SCORERS
def test_negatives_are_ranked_by_popularity_too(scorer: Scorer) -> None:
    negatives = torch.tensor([[1, 4], [1, 6], [1, 2], [6, 0]])
    ranks = rank_targets(scorer, HELD_OUT, popularity=COUNTS, negatives=negatives)
    assert ranks.ranks.tolist() == [2, 2, 3, 2]
