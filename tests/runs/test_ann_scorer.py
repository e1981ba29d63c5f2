"""Lists by an index of items, for a catalogue of 5,000 items and for whole runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.core.progress import SilentProgress
from seqloom.core.protocols import ListScorer, VectorScorer
from seqloom.inference.ann_index import ApproximateIndex
from seqloom.jobs.shards import Shard
from seqloom.pipelines.recommend.recommend import recommend
from seqloom.pipelines.recommend.recommend_shards import (
    ListsJob,
    merge_lists,
    open_lists,
    recommend_shard,
)
from seqloom.pipelines.train.train import train
from seqloom.runs.ann_scorer import ApproximateScorer
from seqloom.runs.folder import load_run
from seqloom.systems.base import Sizes
from seqloom.systems.config import SASRecConfig
from seqloom.systems.sasrec import SASRec
from seqloom.systems.sequence import DotProductScorer
from support.datasets import SMALL, looping_dataset

ITEMS = 5000


@pytest.fixture(scope="module")
def system() -> SASRec:
    """Items around 80 kinds, as training makes them."""
    torch.manual_seed(0)
    made = SASRec(SASRecConfig.build({"encoder": SMALL["encoder"]}), Sizes(num_items=ITEMS))
    kinds = torch.randn(80, made.items.shape[1])
    with torch.no_grad():
        made.items.copy_(kinds[torch.arange(ITEMS) % 80] + 0.4 * torch.randn_like(made.items))
    return made.eval()


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randint(1, ITEMS + 1, (60, 6), generator=draw), torch.full((60,), 6)


@pytest.fixture(scope="module")
def scorer(system: SASRec, batch: tuple[torch.Tensor, torch.Tensor]) -> ApproximateScorer:
    with torch.inference_mode():
        exact = DotProductScorer(system)
        index = ApproximateIndex(exact.item_vectors)
        recall = index.tune(exact.queries(*batch), 10, 0.95, batch[0] - 1)
        return ApproximateScorer(exact, index, recall)


def exactly(
    scorer: ApproximateScorer, batch: tuple[torch.Tensor, torch.Tensor], k: int, seen: torch.Tensor
) -> Any:
    scores = scorer.score(*batch).scatter(1, seen - 1, -torch.inf)
    return scores.topk(k)


@torch.inference_mode()
def test_most_of_the_exact_list_is_found_without_seen_items(
    scorer: ApproximateScorer, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    assert isinstance(scorer, ListScorer)
    assert isinstance(scorer, VectorScorer)
    items, scores = scorer.best(*batch, 10, batch[0])
    expected = exactly(scorer, batch, 10, batch[0])
    hits = (items[:, :, None] == expected.indices[:, None] + 1).any(2).double().mean()
    assert hits >= 0.9
    assert scorer.recall.recall >= 0.9
    assert not (items[:, :, None] == batch[0][:, None]).any()
    torch.testing.assert_close(scores, scorer.score(*batch).gather(1, items - 1))


@torch.inference_mode()
def test_a_filter_that_leaves_little_still_fills_the_list(
    scorer: ApproximateScorer, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """The 1,500 best are hidden: more than an index looks at."""
    hidden = exactly(scorer, batch, 1500, batch[0]).indices + 1
    items, scores = scorer.best(*batch, 10, hidden)
    assert torch.isfinite(scores).all()
    assert not torch.isin(items + 10_000 * torch.arange(60)[:, None],
                          hidden + 10_000 * torch.arange(60)[:, None]).any()  # fmt: skip


@torch.inference_mode()
def test_items_behind_the_index_are_all_scored(
    system: SASRec, scorer: ApproximateScorer, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    more = torch.cat([scorer.item_vectors, 9 * scorer.queries(*batch)[:3]])
    longer = scorer.extend_to(DotProductScorer(system, more))
    items, _ = longer.best(*batch, 5, batch[0])
    assert items[:3, 0].tolist() == [ITEMS + 1, ITEMS + 2, ITEMS + 3]
    without, _ = longer.best(*batch, 5, torch.full((60, 1), ITEMS + 2))
    assert ITEMS + 2 not in without
    assert (longer.restrict_to(torch.tensor([7, ITEMS + 3])).score(*batch)).shape == (60, 2)


class Heard(SilentProgress):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def note(self, message: Any) -> None:
        self.messages.append(message)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    data = looping_dataset(root / "data")
    train(data, "sasrec", config={**SMALL, "epochs": 1}, out=root / "sasrec", device="cpu")
    train(data, "itemknn", out=root / "itemknn")
    return root


def test_a_run_recommends_approximately_and_reports_its_recall(runs: Path) -> None:
    heard = Heard()
    actual = recommend(runs / "sasrec", all_users=True, k=5, approximate=True, progress=heard)
    exact = recommend(runs / "sasrec", all_users=True, k=5)
    assert [[i.item_id for i in u.items] for u in actual] == [
        [i.item_id for i in u.items] for u in exact
    ]
    assert any("recall@10 1.0000" in line and "histories of the data set" in line
               for line in heard.messages)  # fmt: skip


def test_without_its_data_set_recall_is_measured_on_drawn_histories(
    runs: Path, tmp_path: Path
) -> None:
    run = load_run(runs / "sasrec")
    (runs / "data").rename(tmp_path / "away")
    heard = Heard()
    recommend(run, histories=[["i1"]], approximate=True, progress=heard)
    (tmp_path / "away").rename(runs / "data")
    assert "histories drawn by popularity" in heard.messages[-1]


def test_shards_keep_the_recall(runs: Path, tmp_path: Path) -> None:
    job = ListsJob(run=str(runs / "sasrec"), out=str(tmp_path / "lists"), approximate=True)
    for shard in (Shard(0, 2), Shard(1, 2)):
        recommend_shard(job, shard)
    merge_lists(job)
    assert open_lists(job.out)[0].recall == 1.0


def test_a_system_without_vectors_is_refused(runs: Path) -> None:
    with pytest.raises(ConfigError, match=r"dot product; itemknn does not"):
        recommend(runs / "itemknn", histories=[["i1"]], approximate=True)


def test_without_faiss_the_message_names_what_to_install(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"seqloom\[ann\]"):
        recommend(runs / "sasrec", histories=[["i1"]], approximate=True)
