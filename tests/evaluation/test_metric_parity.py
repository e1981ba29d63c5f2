"""Our metrics against trec_eval's, for lists that went through our ranking.

trec_eval is asked through pytrec_eval with the lists themselves; it knows neither our ranks nor our code.
"""

from __future__ import annotations

import pytest
import torch

from seqloom.data.sequences import Sequences
from seqloom.data.store import HeldOut
from seqloom.evaluation.metrics import per_user
from seqloom.evaluation.ranking import rank_targets

pytrec_eval = pytest.importorskip(
    "pytrec_eval", reason="needs pytrec-eval-terrier (extra `dev`), which has no wheel everywhere"
)
ITEMS = 60
CUTOFFS = (1, 5, 10, 20, 100)
"""100 is more than the catalogue holds."""


class FixedScorer:
    """Given scores. A history names its user: its first item is the user's number plus 1."""

    def __init__(self, scores: torch.Tensor) -> None:
        self.num_items = scores.shape[1]
        self._scores = scores

    def score(self, items, lengths):
        return self._scores[items[:, 0] - 1].clone()


@pytest.fixture(scope="module")
def world():
    """Scores, histories with repeated items, and targets of which some were seen before."""
    draw = torch.Generator().manual_seed(3)
    users = ITEMS  # one user an item, so that the first item names the user
    scores = torch.randn(users, ITEMS, generator=draw, dtype=torch.float64)
    histories = [
        [u + 1, *torch.randint(1, ITEMS + 1, (u % 17,), generator=draw).tolist()]
        for u in range(users)
    ]
    targets = torch.randint(1, ITEMS + 1, (users,), generator=draw)
    targets[:5] = torch.tensor([histories[u][-1] for u in range(5)])
    rows = Sequences.from_lists(histories)
    return scores, histories, HeldOut(torch.arange(users), rows, targets)


def by_trec_eval(scores, histories, targets, masked):
    """Success, NDCG and reciprocal rank of each user by trec_eval."""
    lists, relevant = {}, {}
    for user, history in enumerate(histories):
        target = int(targets[user])
        hidden = set(history) - {target} if masked else set()
        lists[f"u{user}"] = {
            f"i{item}": float(scores[user, item - 1])
            for item in range(1, scores.shape[1] + 1)
            if item not in hidden
        }
        relevant[f"u{user}"] = {f"i{target}": 1}
    cuts = ",".join(map(str, CUTOFFS))
    names = {f"success.{cuts}", f"ndcg_cut.{cuts}", "recip_rank"}
    return pytrec_eval.RelevanceEvaluator(relevant, names).evaluate(lists)


@pytest.mark.parametrize("masked", [True, False])
def test_every_users_metrics_are_trec_evals(world, masked) -> None:
    scores, histories, held_out = world
    ranks = rank_targets(FixedScorer(scores), held_out, mask_seen=masked).ranks
    theirs = by_trec_eval(scores, histories, held_out.targets, masked)
    ours = {f"success_{k}": per_user(f"hr@{k}", ranks) for k in CUTOFFS}
    ours |= {f"ndcg_cut_{k}": per_user(f"ndcg@{k}", ranks) for k in CUTOFFS}
    ours["recip_rank"] = per_user("mrr", ranks)
    for name, values in ours.items():
        for user, value in enumerate(values.tolist()):
            assert value == pytest.approx(theirs[f"u{user}"][name], abs=1e-9), (name, user)
    assert 0 < float(ours["success_10"].mean()) < 1
    assert float(ours["success_100"].mean()) == 1.0
