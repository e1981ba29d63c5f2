"""Systems with a learned term for repeated items: what they score, learn and refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.config import apply_overrides
from seqloom.core.errors import ConfigError
from seqloom.core.protocols import VectorScorer
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset
from seqloom.nn.repeats import STRETCH
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.recommend.export import export
from seqloom.pipelines.recommend.recommend import recommend
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.systems.base import TrainingData
from seqloom.systems.sequence import DotProductScorer
from support.datasets import SMALL, small_config, tiny_dataset

SYSTEMS = ["sasrec", "gru4rec", "bert4rec", "bsarec", "llminit", "llmesr", "melt", "cities"]


def made(dataset: Dataset, system: Any, out: Any, **config: Any) -> Any:
    train(
        dataset,
        system,
        out=out,
        config={**small_config(system), "repeat": "learned", **config},
        device="cpu",
    )
    return load_run(out)


@pytest.mark.parametrize("system", SYSTEMS)
def test_scores_are_dot_products_and_terms(dataset: Dataset, tmp_path: Path, system: Any) -> None:
    run = made(dataset, system, tmp_path / "run")
    model = run.system
    assert not isinstance(run.scorer, VectorScorer)
    assert model.repeats.recency.any()
    with torch.no_grad():
        model.repeats.recency.copy_(torch.arange(6.0) / 10 + 0.1)
        model.repeats.often.fill_(0.2)
    batch = Sequences.from_lists([[3, 5, 3], [7]]).pad(model.max_len)
    with torch.inference_mode():
        without = DotProductScorer(model).score(batch.items, batch.lengths)
        added = model.scorer().score(batch.items, batch.lengths) - without
    want = torch.zeros_like(added)
    want[0, 2], want[0, 4], want[1, 6] = 1.0 + 2.0 * torch.tensor(2.0).log(), 2.0, 1.0
    torch.testing.assert_close(added, want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("system", ["sasrec", "bert4rec"])
def test_training_sees_the_items_before_a_target_alone(
    dataset: Dataset, tmp_path: Path, system: Any
) -> None:
    run = made(dataset, system, tmp_path / "run")
    phase = run.system.phases(TrainingData(dataset))[0]
    batch = phase.steps(0)[0]
    with torch.no_grad():
        run.system.repeats.recency.fill_(1.0)
    columns, terms = run.system.repeat_terms(batch)
    masked = system == "bert4rec"
    length = batch.inputs.items.shape[1]
    for number, place in enumerate(batch.places.tolist()):
        row, at = divmod(place, length)
        before = batch.inputs.items[row, : at + (not masked)].tolist()
        known = {item - 1 for item in before if 0 < item <= dataset.num_items}
        assert set(columns[number][terms[number] != 0].tolist()) == known


def shop(twice: bool) -> list[list[int]]:
    """Eight items by chance, each once, or four items twice in a row."""
    draw = torch.Generator().manual_seed(5)
    rows = [(torch.randperm(30, generator=draw)[:8] + 1).tolist() for _ in range(60)]
    return [[row[n // 2] for n in range(8)] if twice else row for row in rows]


@pytest.mark.parametrize("twice", [False, True])
def test_it_learns_whether_people_repeat(tmp_path: Path, twice: Any) -> None:
    data = tiny_dataset(tmp_path / "data", shop(twice))
    config = {"epochs": 25, "batch_size": 8, "learning_rate": 0.02, "averaging": None}
    run = made(data, "sasrec", tmp_path / "run", **config, patience=None)
    last, before = (STRETCH * run.system.repeats.recency[:2]).tolist()
    assert before < -2
    assert last > 2 if twice else last < -2
    ndcg = [evaluate(run, mask_seen=masked).metrics["ndcg@10"] for masked in (True, False)]
    assert ndcg[0] < ndcg[1] if twice else ndcg[0] == pytest.approx(ndcg[1], abs=0.01)


def test_an_ensemble_has_the_terms_of_its_members(dataset: Dataset, tmp_path: Path) -> None:
    made(dataset, "sasrec", tmp_path / "sasrec")
    train(dataset, "itemknn", out=tmp_path / "itemknn", device="cpu")
    members = {"runs": [str(tmp_path / "sasrec"), str(tmp_path / "itemknn")], "scale": "logits"}
    train(dataset, "ensemble", out=tmp_path / "both", config=members, device="cpu")
    run = load_run(tmp_path / "both")
    batch = Sequences.from_lists([[3, 5, 3]]).pad(8)
    ensemble: Any = run.system
    system, weight = ensemble.systems[0], ensemble.weights[0]
    with torch.inference_mode():
        first = run.scorer.score(batch.items, batch.lengths)
        terms = system.scorer().score(batch.items, batch.lengths)
        terms = terms - DotProductScorer(system).score(batch.items, batch.lengths)
        system.repeats.recency.zero_()
        system.repeats.often.zero_()
        second = run.system.scorer().score(batch.items, batch.lengths)
    torch.testing.assert_close(first - second, weight * terms, atol=1e-4, rtol=1e-3)
    assert len(recommend(run, histories=[["i3"]], k=3)[0].items) == 3


def test_what_it_cannot_do_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"loss\.kind is bce; set loss\.kind=softmax"):
        made(dataset, "sasrec", tmp_path / "bce", loss={"kind": "bce"})
    made(dataset, "sasrec", tmp_path / "run")
    with pytest.raises(ConfigError, match="repeat=learned"):
        export(tmp_path / "run", tmp_path / "run.onnx")
    with pytest.raises(ConfigError, match="does not, so leave --approximate out"):
        recommend(load_run(tmp_path / "run"), histories=[["i1"]], approximate=True)
    plain = apply_overrides(SMALL, ["repeat=none"])
    train(dataset, "sasrec", out=tmp_path / "plain", config=plain, device="cpu")
    assert isinstance(load_run(tmp_path / "plain").scorer, VectorScorer)
