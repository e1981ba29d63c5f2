"""One history gives one list, whichever part of the product answers it, for every kind of scorer.

The parts are `recommend`, the lists of `evaluate`, the answer that `compare` times, and the served engine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seqloom.core.protocols import Scorer
from seqloom.data.sequences import Sequences
from seqloom.data.store import HeldOut
from seqloom.evaluation.ranking import rank_targets
from seqloom.pipelines.compare import latency
from seqloom.pipelines.recommend.recommend import recommend
from seqloom.pipelines.train.train import train
from seqloom.runs.ann_scorer import approximate_scorer
from seqloom.runs.folder import Run, load_run
from seqloom.serving.engine.engine import Engine
from seqloom.serving.engine.queries import Recommend
from seqloom.serving.store.sqlite import SqliteStore
from support.datasets import SMALL, looping_dataset

KINDS = ["scores", "vectors", "beam", "index"]
HISTORIES = [[3, 7, 11], [], [5], [40, 1, 2, 2, 9, 13, 14, 15, 16, 17], [], [8, 6]]
ITEMS = 40


class ScoresAll:
    """Scores that tie in pairs, so that lists depend on the tie keys."""

    num_items = ITEMS

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        last = items.gather(1, (lengths - 1).clamp(min=0)[:, None])  # [B, 1]
        return ((torch.arange(1, ITEMS + 1) * 7 + last * 13) % 20).float()


class SearchesLists(ScoresAll):
    """A beam search: distinct scores, lists that end before the catalogue does."""

    list_size = 10

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        return super().score(items, lengths) + torch.arange(ITEMS) / 100

    def best(
        self, items: Tensor, lengths: Tensor, k: int, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        scores = torch.nn.functional.pad(self.score(items, lengths), (1, 0), value=-torch.inf)
        if seen is not None:
            scores = scores.scatter(1, seen, -torch.inf)
        values, at = scores[:, 1:].topk(min(k, 30), dim=1)
        items = (at + 1).masked_fill(values == -torch.inf, 0)
        pad, more = torch.nn.functional.pad, k - items.shape[1]
        return pad(items, (0, more)), pad(values, (0, more), value=-torch.inf)

    def score_candidates(self, items: Tensor, lengths: Tensor, candidates: Tensor) -> Tensor:
        scores = self.score(items, lengths).gather(1, (candidates - 1).clamp(min=0))
        return scores.masked_fill(candidates == 0, -torch.inf)

    def exact_scorer(self) -> Scorer:
        return self

    def restrict_to(self, numbers: Tensor) -> Scorer:
        raise NotImplementedError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run of SASRec."""
    folder = tmp_path_factory.mktemp("same")
    dataset = looping_dataset(folder / "data")
    train(dataset, "sasrec", out=folder / "run", config=SMALL, device="cpu")
    return folder / "run"


def scorer_of(run: Run, kind: str) -> Scorer:
    if kind == "index":
        pytest.importorskip("faiss")
        return approximate_scorer(run)
    return {"scores": ScoresAll(), "vectors": run.scorer, "beam": SearchesLists()}[kind]


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest, trained: Path) -> Run:
    """The run with a scorer of each kind."""
    run = load_run(trained)
    run.scorer = scorer_of(run, request.param)
    return run


@pytest.fixture
def engine(run: Run, trained: Path, tmp_path: Path) -> Iterator[Engine]:
    """An engine that serves the same scorer."""
    store = SqliteStore(tmp_path / "s.db")
    engine = Engine({"m": trained}, store)
    catalogue = engine.model().catalogue
    ranker = dataclasses.replace(catalogue.snapshot.ranker, scorer=run.scorer)
    catalogue.snapshot = dataclasses.replace(catalogue.snapshot, ranker=ranker)
    yield engine
    engine.close()
    store.close()


def named(run: Run, numbers: list[int]) -> list[str]:
    return [run.item_ids[number - 1] for number in numbers if number]


def recommended(run: Run, k: int, *, mask_seen: bool = True) -> list[list[str]]:
    histories = [named(run, history) for history in HISTORIES]
    lists = recommend(run, histories=histories, k=k, mask_seen=mask_seen)
    return [[item.item_id for item in each.items] for each in lists]


def evaluated(run: Run, k: int, *, mask_seen: bool = True) -> list[list[str]]:
    rows = Sequences.from_lists(HISTORIES)
    assert run.popularity is not None
    ranks = rank_targets(
        run.scorer,
        HeldOut(torch.arange(len(rows)), rows, torch.full((len(rows),), 20)),
        popularity=run.popularity,
        max_len=run.system.max_len,
        mask_seen=mask_seen,
        list_length=k,
        keys=run.tie_keys,
    )
    return [named(run, numbers) for numbers in ranks.lists.tolist()]


def served(engine: Engine, run: Run, k: int, **options: object) -> list[list[str]]:
    queries = [Recommend(history=tuple(named(run, h)), k=k, **options) for h in HISTORIES]  # type: ignore[arg-type]
    futures = [engine.submit(None, query) for query in queries]
    return [[item.item_id for item in future.result(20).items] for future in futures]


@pytest.mark.parametrize("k", [10, 25, 100])
@pytest.mark.parametrize("mask_seen", [True, False])
def test_recommend_evaluate_and_server_give_one_list(
    run: Run, engine: Engine, k: int, mask_seen: bool
) -> None:
    lists = recommended(run, k, mask_seen=mask_seen)
    assert all(len(each) == len(set(each)) > 0 for each in lists)
    assert evaluated(run, k, mask_seen=mask_seen) == lists
    assert served(engine, run, k, include_seen=not mask_seen) == lists


def test_the_timed_answer_is_the_same_list(run: Run) -> None:
    rows = Sequences.from_lists(HISTORIES)
    ranker = run.ranker()
    answers = [latency.answer_one(ranker, rows.select(torch.tensor([n]))) for n in range(len(rows))]
    assert [named(run, answer) for answer in answers] == recommended(run, 10)


def test_excluded_items_leave_the_others_in_place(run: Run, engine: Engine) -> None:
    lists = recommended(run, 10)
    excluded = (lists[0][0], lists[1][1], "no such item")
    expected = [[item for item in each if item not in excluded] for each in lists]
    answers = served(engine, run, 10, exclude=excluded)
    assert [answer[: len(each)] for answer, each in zip(answers, expected, strict=True)] == expected


def test_candidates_stand_in_the_order_of_the_whole_list(run: Run, engine: Engine) -> None:
    candidates = ("i1", "i4", "i20", "i9", "i3", "i20", "no such item", "i33")
    whole = served(engine, run, 100)
    if isinstance(run.scorer, SearchesLists):  # its lists end before its candidates do
        rows = Sequences.from_lists(HISTORIES).pad()
        orders = run.scorer.score(rows.items, rows.lengths).argsort(1, descending=True) + 1
        for number, history in enumerate(HISTORIES):
            if history:
                unseen = [item for item in orders[number].tolist() if item not in history]
                whole[number] = named(run, unseen)
    expected = [[item for item in each if item in candidates] for each in whole]
    assert served(engine, run, 10, candidates=candidates) == expected
    assert served(engine, run, 2, candidates=candidates) == [each[:2] for each in expected]
