"""What users without a history are given, by scorers of both kinds."""

import pytest
import torch

from seqloom.core.protocols import ListScorer
from seqloom.data.popular import popularity_scores
from seqloom.data.sequences import Sequences
from seqloom.data.store import HeldOut
from seqloom.evaluation.ranking import rank_targets
from seqloom.inference.cold_start import with_popular

COUNTS = torch.tensor([3, 7, 0, 7, 1, 0])  # so the order is 2 and 4 alike, 1, 5, then 3 and 6 alike
KEYS = torch.tensor([5, 9, 3, 8, 1, 2])  # which put 4 before 2, and 6 before 3
ORDER = [4, 2, 1, 5]


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

    def exact_scorer(self):
        return Rising()

    def restrict_to(self, numbers):
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
    return with_popular(scorer, COUNTS, KEYS), batch.items, batch.lengths


def test_equal_counts_tie_and_others_do_not():
    scores = popularity_scores(COUNTS)
    assert scores[1] == scores[3] > scores[0] > scores[4] > scores[2] == scores[5]
    many = popularity_scores(torch.tensor([2**24, 2**24 + 1]))  # alike in single precision
    assert many[0] < many[1]


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
    found = rank_targets(scorer, HELD_OUT, popularity=COUNTS, list_length=4, keys=KEYS)
    # 2 ties with 4, which counts against it; 5 is first once 6 is masked; 5 is fourth; 3 ties with 6.
    assert found.ranks.tolist() == [2, 1, 4, 6]
    assert found.lists.tolist() == [ORDER, [5, 4, 3, 2], ORDER, ORDER]
    short = rank_targets(scorer, HELD_OUT, popularity=COUNTS, list_length=1, keys=KEYS)
    assert short.ranks.tolist() == found.ranks.tolist()  # whoever is in the list
    assert short.lists.tolist() == [[4], [5], [4], [4]]


@SCORERS
def test_negatives_are_ranked_by_popularity_too(scorer):
    negatives = torch.tensor([[1, 4], [1, 6], [1, 2], [6, 0]])
    found = rank_targets(scorer, HELD_OUT, popularity=COUNTS, negatives=negatives)
    assert found.ranks.tolist() == [2, 2, 3, 2]


def test_lists_leave_seen_items_out_and_end_where_there_are_no_more():
    answering, items, lengths = asked(RisingLists())
    seen = torch.tensor([[4, 0], [6, 0], [2, 2], [0, 0]])
    found, scores = answering.best(items, lengths, 6, seen)
    assert found[0].tolist()[:3] == [2, 1, 5]
    assert found[0, -1] == 0
    assert torch.isinf(scores[0, -1])
    assert found[2].tolist()[:3] == [4, 1, 5]
    assert found[3].tolist() == [*ORDER, 6, 3]
    more, _ = answering.best(items[:1], lengths[:1], 8, None)
    assert more[0].tolist()[6:] == [0, 0]


def test_some_items_alone_are_ordered_by_their_own_counts():
    answering, items, lengths = asked(RisingLists())
    found = answering.restrict_to(torch.tensor([5, 4])).score(items, lengths)
    assert found[0, 1] > found[0, 0]
    assert found[1].tolist() == [5.0, 4.0]
    assert torch.equal(answering.exact_scorer().score(items, lengths)[0], popularity_scores(COUNTS))
