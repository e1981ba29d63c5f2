"""Our metrics equal those of trec_eval and RecBole for lists of our ranking.

pytrec_eval computes them from the lists, without our ranks or code. RecBole needs old libraries, so its
results are stored (`recbole/make.py`).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seqloom.data.sequences import Sequences
from seqloom.data.store import HeldOut
from seqloom.evaluation.metrics import list_metrics, per_user, rank_metrics
from support.datasets import ranked

ITEMS = 60
CUTOFFS = (1, 5, 10, 20, 100)
"""100 is larger than the catalogue."""

World = tuple[Tensor, list[list[int]], HeldOut]
ByRecBole = tuple[Tensor, Tensor, dict[str, float], str]


class FixedScorer:
    """Returns fixed scores. The first item of a history is the number of its user plus 1."""

    def __init__(self, scores: Tensor) -> None:
        self.num_items = scores.shape[1]
        self._scores = scores

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        return self._scores[items[:, 0] - 1].clone()


@pytest.fixture(scope="module")
def world() -> World:
    """Scores, histories with repeated items, and targets of which some are in the history."""
    draw = torch.Generator().manual_seed(3)
    users = ITEMS  # one user per item, so that the first item identifies the user
    scores = torch.randn(users, ITEMS, generator=draw, dtype=torch.float64)
    histories = [
        [u + 1, *torch.randint(1, ITEMS + 1, (u % 17,), generator=draw).tolist()]
        for u in range(users)
    ]
    targets = torch.randint(1, ITEMS + 1, (users,), generator=draw)
    targets[:5] = torch.tensor([histories[u][-1] for u in range(5)])
    rows = Sequences.from_lists(histories)
    return scores, histories, HeldOut(torch.arange(users), rows, targets)


def by_trec_eval(
    scores: Tensor, histories: list[list[int]], targets: Tensor, masked: bool
) -> dict[str, dict[str, float]]:
    """Computes success, NDCG and reciprocal rank of each user by trec_eval."""
    pytrec_eval = pytest.importorskip(
        "pytrec_eval", reason="needs pytrec-eval-terrier (extra `dev`), not there on every platform"
    )
    lists, relevant = {}, {}
    for user, history in enumerate(histories):
        target = int(targets[user])
        hidden = set(history) if masked else set()
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
def test_metrics_of_every_user_equal_trec_eval(world: World, masked: bool) -> None:
    scores, histories, held_out = world
    ranks = ranked(FixedScorer(scores), held_out, mask_seen=masked).ranks
    theirs = by_trec_eval(scores, histories, held_out.targets, masked)
    ours = {f"success_{k}": per_user(f"hr@{k}", ranks) for k in CUTOFFS}
    ours |= {f"ndcg_cut_{k}": per_user(f"ndcg@{k}", ranks) for k in CUTOFFS}
    ours["recip_rank"] = per_user("mrr", ranks)
    for name, values in ours.items():
        for user, value in enumerate(values.tolist()):
            assert value == pytest.approx(theirs[f"u{user}"][name], abs=1e-9), (name, user)
    assert 0 < float(ours["success_10"].mean()) < 1
    seen = held_out.repeats if masked else torch.zeros(ITEMS, dtype=torch.bool)
    assert torch.equal(ours["success_100"] == 0, seen)
    assert int(seen.sum()) >= 5 or not masked


REPORTED = json.loads((Path(__file__).parent / "recbole" / "reported.json").read_text())
"""Lists of RecBole 1.2.1 and its metrics of them; `recbole/make.py` wrote the file."""


@pytest.fixture(scope="module", params=["masked", "unmasked"])
def by_recbole(request: pytest.FixtureRequest) -> ByRecBole:
    """Our ranks and lists for the scores that RecBole sorted, its metrics, and whether items are masked."""
    scores = torch.tensor(REPORTED["scores"], dtype=torch.float64)
    # The scorer finds its row by the first item of a history, so users are ranked one by one.
    rows = []
    for user, history in enumerate(REPORTED["histories"]):
        one = HeldOut(
            torch.tensor([user]),
            Sequences.from_lists([history]),
            torch.tensor([REPORTED["targets"][user]]),
        )
        scorer = FixedScorer(scores[user].expand(REPORTED["items"], -1))
        masked = request.param == "masked"
        rows.append(ranked(scorer, one, mask_seen=masked, list_length=max(REPORTED["topk"])))
    ranks = torch.cat([row.ranks for row in rows])
    return ranks, torch.cat([row.lists for row in rows]), REPORTED[request.param], request.param


def test_metrics_equal_recbole(by_recbole: ByRecBole) -> None:
    ranks, _, theirs, kind = by_recbole
    ours: dict[str, float] = {}
    for k in REPORTED["topk"]:
        hit = rank_metrics(ranks, [f"hr@{k}"])[f"hr@{k}"]
        ours |= {f"hit@{k}": hit, f"recall@{k}": hit}  # one relevant item: the same number
        ours[f"ndcg@{k}"] = rank_metrics(ranks, [f"ndcg@{k}"])[f"ndcg@{k}"]
        ours[f"mrr@{k}"] = float(torch.where(ranks <= k, per_user("mrr", ranks), 0.0).mean())
    for name, value in ours.items():
        assert value == pytest.approx(theirs[name], abs=1e-9), name
        if kind == "masked":  # as RecBole prints it
            assert round(value, 4) == REPORTED["masked_4_digits"][name]
    assert 0 < ours["hit@1"] < ours["hit@30"] < 1


def test_list_metrics_equal_recbole(by_recbole: ByRecBole) -> None:
    """RecBole counts its padding item as part of the catalogue; we do not."""
    _, lists, theirs, _ = by_recbole
    popularity = torch.tensor([0, *REPORTED["training_counts"]])
    ours = list_metrics(lists, popularity, REPORTED["topk"])
    items = REPORTED["items"]
    for k in REPORTED["topk"]:
        coverage = ours[f"coverage@{k}"] * items / (items + 1)
        assert coverage == pytest.approx(theirs[f"itemcoverage@{k}"], abs=1e-9)
        assert ours[f"popularity@{k}"] == pytest.approx(theirs[f"averagepopularity@{k}"], abs=1e-9)
