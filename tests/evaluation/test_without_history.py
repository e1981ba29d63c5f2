"""What users without a history are given, by scorers of both kinds."""

import pytest
import torch

from seqloom.core.protocols import ListScorer
from seqloom.data.popular import popularity_scores
from seqloom.data.sequences import Sequences
from seqloom.data.store import HeldOut
from seqloom.evaluation.ranking import rank_targets
from seqloom.evaluation.without_history import with_popular

COUNTS = torch.tensor([3, 7, 0, 7, 1, 0])  # so the order is 2, 4, 1, 5, then 3 and 6 alike
ORDER = [2, 4, 1, 5]


class Rising:
    """Scores the item number; must never be asked about nothing."""

    num_items = 6

    def score(self, items, lengths):
        assert (lengths > 0).all()
        return torch.arange(1.0, 7.0).repeat(len(items), 1)


class RisingLists(Rising):
    list_size = 6

    def best(self, items, lengths, k, seen=None):
        scores = self.score(items, lengths)
        if seen is not None:
            scores = torch.cat([torch.zeros(len(items), 1), scores], 1)
            scores = scores.scatter(1, seen, float("-inf"))[:, 1:]
        top = scores.topk(k, dim=1)
        return (top.indices + 1).masked_fill(top.values == float("-inf"), 0), top.values

    def score_candidates(self, items, lengths, candidates):
        assert (lengths > 0).all()
        return candidates.double()

    def exact(self):
        return Rising()

    def among(self, numbers):
        class Some:
            num_items = len(numbers)

            def score(self, items, lengths):
                return numbers.float().repeat(len(items), 1)

        return Some()


SCORERS = pytest.mark.parametrize("scorer", [Rising(), RisingLists()])
HISTORIES = Sequences.from_lists([[], [6], [], []])
HELD_OUT = HeldOut(torch.arange(4), HISTORIES, torch.tensor([2, 5, 5, 3]))


def asked(scorer):
    batch = HISTORIES.pad()
    return with_popular(scorer, COUNTS), batch.items, batch.lengths


def test_popularity_orders_by_count_then_number_and_tells_unmet_items_not_apart():
    scores = popularity_scores(COUNTS)
    assert (scores.argsort(descending=True, stable=True) + 1).tolist() == [*ORDER, 3, 6]
    assert scores[2] == scores[5] < scores[4]
    many = torch.full(
        (100_000,), 9_999_999
    )  # equal counts that single precision would not keep apart
    assert (popularity_scores(many).diff() < 0).all()


@SCORERS
def test_only_an_empty_history_is_answered_by_popularity(scorer):
    answering, items, lengths = asked(scorer)
    assert isinstance(answering, ListScorer) == isinstance(scorer, ListScorer)
    found = answering.score(items, lengths)
    assert torch.equal(found[1], torch.arange(1.0, 7.0, dtype=found.dtype))
    for row in (0, 2, 3):
        assert torch.equal(found[row], popularity_scores(COUNTS))


@SCORERS
def test_ranks_and_lists_are_those_of_popularity(scorer):
    found = rank_targets(scorer, HELD_OUT, popularity=COUNTS, list_length=4)
    # 2 is first; 5 is first once 6 is masked; 5 is fourth; 3 ties with 6.
    assert found.ranks.tolist() == [1, 1, 4, 6]
    assert found.lists.tolist() == [ORDER, [5, 4, 3, 2], ORDER, ORDER]


@SCORERS
def test_negatives_are_ranked_by_popularity_too(scorer):
    negatives = torch.tensor([[1, 4], [1, 6], [1, 2], [6, 0]])
    found = rank_targets(scorer, HELD_OUT, popularity=COUNTS, negatives=negatives)
    assert found.ranks.tolist() == [1, 2, 3, 2]


def test_lists_leave_seen_items_out_and_end_where_there_are_no_more():
    answering, items, lengths = asked(RisingLists())
    seen = torch.tensor([[4, 0], [6, 0], [2, 2], [0, 0]])
    found, scores = answering.best(items, lengths, 6, seen)
    assert found[0].tolist()[:3] == [2, 1, 5]
    assert found[0, -1] == 0
    assert torch.isinf(scores[0, -1])
    assert found[2].tolist()[:3] == [4, 1, 5]
    assert sorted(found[3].tolist()) == [1, 2, 3, 4, 5, 6]
    more, _ = answering.best(items[:1], lengths[:1], 8, None)
    assert more[0].tolist()[6:] == [0, 0]


def test_some_items_alone_are_ordered_by_their_own_counts():
    answering, items, lengths = asked(RisingLists())
    found = answering.among(torch.tensor([5, 4])).score(items, lengths)
    assert found[0, 1] > found[0, 0]
    assert found[1].tolist() == [5.0, 4.0]
    assert torch.equal(answering.exact().score(items, lengths)[0], popularity_scores(COUNTS))
