"""An ensemble's weights: what they are fitted on, and that they are the best ones."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from seqloom.systems.ensemble.candidates import Candidates, choose
from seqloom.systems.ensemble.fitting import fit_likelihood, ndcg, search_ndcg

USERS, ITEMS = 400, 30


def random_scores(
    members: int = 2, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randn(members, USERS, ITEMS, generator=draw)
    target = torch.randint(ITEMS, (USERS,), generator=draw)
    allowed = torch.rand(USERS, ITEMS, generator=draw) > 0.2
    return scores, target, allowed, torch.rand(USERS, ITEMS, generator=draw)


def candidates_of(
    scores: torch.Tensor, target: Any, allowed: Any, draws: Any, best: int, width: int
) -> Candidates:
    columns, count = choose(scores, target, allowed, draws, best, width)
    kept = torch.stack([each.gather(1, columns) for each in scores], 2)
    return Candidates(kept, count, scores.std(2, correction=0).mean(1).double())


def loops(scores: torch.Tensor, target: Any, allowed: Any, weights: torch.Tensor) -> float:
    """The mean log-likelihood, written from its definition."""
    total = 0.0
    for user in range(USERS):
        mixed = [
            sum(float(w) * float(scores[m, user, item]) for m, w in enumerate(weights))
            for item in range(ITEMS)
        ]
        competing = [i for i in range(ITEMS) if allowed[user, i] or i == target[user]]
        z = sum(math.exp(mixed[item]) for item in competing)
        total += mixed[int(target[user])] - math.log(z)
    return total / USERS


def test_chosen_columns_are_the_target_the_best_and_some_others() -> None:
    scores, target, allowed, draws = random_scores()
    columns, count = choose(scores, target, allowed, draws, best=3, width=10)
    assert torch.equal(columns[:, 0], target)
    assert (count[:, 0] == 0).all()
    for user in range(USERS):
        rivals = [i for i in range(ITEMS) if allowed[user, i] and i != target[user]]
        best = {
            i
            for member in scores[:, user]
            for i in sorted(rivals, key=lambda i: -float(member[i]))[:3]
        }
        real = count[user, 1:] > float("-inf")
        chosen = columns[user, 1:][real].tolist()
        assert len(set(chosen)) == len(chosen)
        assert best <= set(chosen) <= set(rivals)
        alone = {i for i, n in zip(chosen, count[user, 1:][real].tolist(), strict=True) if n == 0}
        assert best <= alone
        # Together the columns stand for every item that competes.
        assert float(count[user].exp().sum()) == pytest.approx(1 + len(rivals), rel=1e-5)


def test_the_weights_maximise_the_likelihood_written_as_loops() -> None:
    scores, target, allowed, draws = random_scores()
    # Member 0 knows something of the target, member 1 half as much.
    scores[0, torch.arange(USERS), target] += 1.5
    scores[1, torch.arange(USERS), target] += 0.75
    actual = fit_likelihood(candidates_of(scores, target, allowed, draws, ITEMS, ITEMS), l2=0.0)
    reached = loops(scores, target, allowed, actual)
    for change in ([0.05, 0], [-0.05, 0], [0, 0.05], [0, -0.05], [0.03, -0.03], [-0.03, 0.03]):
        assert loops(scores, target, allowed, actual + torch.tensor(change)) < reached
    assert actual[0] > actual[1] > 0


def test_drawn_others_stand_for_the_rest() -> None:
    scores, target, allowed, draws = random_scores()
    scores[:, torch.arange(USERS), target] += 1.0
    exact = fit_likelihood(candidates_of(scores, target, allowed, draws, ITEMS, ITEMS), l2=0.0)
    drawn = fit_likelihood(candidates_of(scores, target, allowed, draws, 4, 14), l2=0.0)
    torch.testing.assert_close(drawn, exact, rtol=0.1, atol=0.05)


def test_a_member_that_knows_nothing_gets_no_weight_and_none_is_counted_against() -> None:
    scores, target, allowed, draws = random_scores(members=3)
    scores[0, torch.arange(USERS), target] += 2.0
    scores[1] = -scores[0]
    actual = fit_likelihood(candidates_of(scores, target, allowed, draws, ITEMS, ITEMS), l2=0.0)
    assert actual[0] > 0.5
    assert actual[1] == 0
    assert 0 <= actual[2] < 0.15


def test_a_large_l2_sums_the_members_alike() -> None:
    scores, target, allowed, draws = random_scores()
    scores[0, torch.arange(USERS), target] += 2.0
    scores[1] *= 10
    candidates = candidates_of(scores, target, allowed, draws, ITEMS, ITEMS)
    shares = fit_likelihood(candidates, l2=1e4) * candidates.spread
    assert float(shares[0] / shares[1]) == pytest.approx(1.0, abs=1e-3)


def test_the_search_raises_ndcg_and_keeps_the_scale() -> None:
    scores, target, allowed, draws = random_scores()
    scores[0, torch.arange(USERS), target] += 1.0
    candidates = candidates_of(scores, target, allowed, draws, ITEMS, ITEMS)
    start = torch.tensor([0.2, 1.0])
    actual = search_ndcg(candidates, start)
    assert ndcg(candidates, actual) > ndcg(candidates, start)
    assert float(actual.sum()) == pytest.approx(1.2)


def test_ndcg_is_that_of_the_ranks() -> None:
    scores, target, allowed, draws = random_scores(members=1)
    candidates = candidates_of(scores, target, allowed, draws, ITEMS, ITEMS)
    expected = 0.0
    for user in range(USERS):
        truth = scores[0, user, target[user]]
        rivals = [i for i in range(ITEMS) if allowed[user, i] and i != target[user]]
        rank = 1 + sum(bool(scores[0, user, i] >= truth) for i in rivals)
        expected += 1 / math.log2(1 + rank) if rank <= 10 else 0.0
    assert ndcg(candidates, torch.ones(1)) == pytest.approx(expected / USERS)
