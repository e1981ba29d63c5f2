"""A dense text score beside the log-probability of an ID: sums, unions, the choice of the weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.core.protocols import ListScorer, NewItems, VectorScorer
from seqloom.data.store import Dataset
from seqloom.pipelines.evaluate.zero_shot import zero_shot
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import Run, load_run
from seqloom.runs.new_items import append_rows
from seqloom.systems.idgenrec.config import IDGenRecConfig
from seqloom.systems.idgenrec.scorer import BeamScorer
from seqloom.systems.idgenrec.system import BLENDS
from seqloom.systems.tail_blend import RememberingBlendPhase
from seqloom.systems.view_phase import TEXT_ALONE
from support.datasets import SMALL, SMALL_IDGENREC, walkers

DENSE = {"enabled": True, "nearest": 5, "tower": SMALL}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return walkers(tmp_path_factory.mktemp("data") / "d", 25)


def config(**changes: Any) -> dict[str, Any]:
    return {**SMALL_IDGENREC, "rounds": 1, "num_beams": 4, "dense": DENSE, **changes}


@pytest.fixture(scope="module")
def trained(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train(data, "idgenrec", out=out, config=config(), device="cpu")
    return out


@pytest.fixture
def run(trained: Path) -> Run:
    return load_run(trained)


def histories() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([[1, 4, 7, 10], [2, 3, 0, 0], [0, 0, 0, 0]]), torch.tensor([4, 2, 0])


def parts(system: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The scores of both halves. Shapes: -> two of [B, N]."""
    system.blend.fill_(0.0)
    with torch.inference_mode():
        written = system.scorer().score(*histories())
        vectors = system.tower.item_vectors()
        dense = system.tower.queries(*histories(), vectors) @ vectors.T
    return written, dense


def test_the_sum_is_that_of_both_halves_for_all_items_and_for_some(run: Any) -> None:
    written, dense = parts(run.system)
    run.system.blend.fill_(0.3)
    scorer = run.system.scorer()
    assert isinstance(scorer, ListScorer)
    some = torch.tensor([[9, 3, 0], [25, 0, 1], [4, 5, 6]])
    want = written + 0.3 * dense
    with torch.inference_mode():
        torch.testing.assert_close(scorer.score(*histories()), want, rtol=1e-4, atol=1e-4)
        found = scorer.score_candidates(*histories(), some)
        restricted = scorer.restrict_to(torch.tensor([9, 3])).score(*histories())
    expected = want.gather(1, (some - 1).clamp(min=0)).masked_fill(some == 0, float("-inf"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(restricted, want[:, [8, 2]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seen", [False, True])
def test_the_union_is_exact_where_it_covers_the_catalogue(run: Any, seen: bool) -> None:
    system = run.system
    system.blend.fill_(0.7)
    system.config = system.config.model_copy(
        update={"dense": system.config.dense.model_copy(update={"nearest": 25})}
    )
    masked = torch.tensor([[1, 4, 7], [2, 3, 0], [0, 0, 0]]) if seen else None
    scorer = system.scorer()
    with torch.inference_mode():
        scores = scorer.score(*histories())
        listed, values = scorer.best(*histories(), 6, masked)
    if masked is not None:
        padded = torch.nn.functional.pad(scores, (1, 0)).scatter(1, masked, float("-inf"))
        scores = padded[:, 1:]
    expected = scores.topk(6, dim=1)
    torch.testing.assert_close(values, expected.values, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores.gather(1, listed - 1), expected.values, rtol=1e-4, atol=1e-4)


def test_a_small_union_holds_the_beam_and_the_nearest_each_once(run: Any) -> None:
    system = run.system
    _, dense = parts(system)
    with torch.inference_mode():
        beam, _ = system.scorer().best(*histories(), 4)
    system.blend.fill_(0.5)
    scorer = system.scorer()
    with torch.inference_mode():
        listed, scores = scorer.best(*histories(), 25)
        few, _ = scorer.best(*histories(), 3)
    for row, near in zip(range(3), dense.topk(5, dim=1).indices + 1, strict=True):
        found = [n for n in listed[row].tolist() if n]
        assert len(found) == len(set(found))
        assert set(found) >= {*beam[row].tolist(), *near.tolist()}
        allowed = {*beam[row].tolist(), *near.tolist()}
        assert set(few[row].tolist()) <= allowed
    assert torch.equal(scores, scores.sort(dim=1, descending=True).values)


def test_weights_are_compared_by_one_search(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    system = run.system
    fresh = []
    for weight in (0.3, 2.5):
        system.blend.fill_(weight)
        fresh.append(system.scorer().best(*histories(), 6))
    searched = []
    search = BeamScorer.best

    def count(*arguments: Any) -> Any:
        searched.append(arguments[1].shape)
        return search(*arguments)

    monkeypatch.setattr(BeamScorer, "best", count)
    phase = RememberingBlendPhase("blend", system, "blend", (0.3, 2.5))
    for epoch, (listed, scores) in enumerate(fresh):
        phase.steps(epoch)
        found = system.scorer().best(*histories(), 6)
        assert torch.equal(found[0], listed)
        assert torch.equal(found[1], scores)
    assert searched == [histories()[0].shape]
    phase.steps(0)  # another choice may follow other weights
    system.scorer().best(*histories(), 6)
    assert len(searched) == 2


def test_without_weight_it_is_plain_and_with_a_large_one_the_tower_alone(run: Any) -> None:
    system = run.system
    written, dense = parts(system)
    with torch.inference_mode():
        torch.testing.assert_close(system.scorer().score(*histories()), written)
        system.blend.fill_(TEXT_ALONE)
        alone = system.scorer()
        torch.testing.assert_close(alone.score(*histories()), dense)
    assert isinstance(alone, VectorScorer)


def test_the_models_start_and_train_as_without_it(trained: Path, data: Dataset) -> None:
    plain = trained.parent / "plain"
    train(data, "idgenrec", out=plain, config=config(dense={}), device="cpu")
    first, second = load_run(plain), load_run(trained)
    with_dense = second.system.state_dict()
    assert all(torch.equal(v, with_dense[n]) for n, v in first.system.state_dict().items())
    assert second.manifest.valid["ndcg@10"] >= first.manifest.valid["ndcg@10"]
    phases = [row["phase"] for row in second.log]
    assert phases == ["tagging", "recommender-1", "dense", *["blend"] * len(BLENDS)]
    values = {row["phase"]: row["valid"]["ndcg@10"] for row in second.log if "valid" in row}
    assert second.manifest.valid["ndcg@10"] >= values["dense"]


def test_a_dense_score_is_added_to_a_run_that_is_not_trained_further(
    data: Dataset, trained: Path, tmp_path: Path
) -> None:
    changes = {"epochs": 0, "generation": {"tagging_epochs": 0}, "start_from": str(trained)}
    train(data, "idgenrec", out=tmp_path / "more", config=config(**changes), device="cpu")
    before: Any = load_run(trained).system
    after: Any = load_run(tmp_path / "more").system
    assert torch.equal(before.ids, after.ids)
    for name, value in before.recommender.state_dict().items():
        assert torch.equal(value, after.recommender.state_dict()[name]), name


def test_exact_decoding_sums_as_well(data: Dataset, tmp_path: Path) -> None:
    exact = config(decoding="exact")
    train(data, "idgenrec", out=tmp_path / "run", config=exact, device="cpu")
    system: Any = load_run(tmp_path / "run").system
    written, dense = parts(system)
    system.blend.fill_(0.3)
    scorer = system.scorer()
    assert not isinstance(scorer, ListScorer)
    with torch.inference_mode():
        scores = scorer.score(*histories())
    torch.testing.assert_close(scores, written + 0.3 * dense, rtol=1e-4, atol=1e-4)


def test_a_new_item_has_a_name_and_a_vector(run: Any, data: Dataset) -> None:
    system = run.system
    system.blend.fill_(0.5)
    new = NewItems(["x", "y"], data.items.slice(1, 2))
    rows = system.rows_of(lambda: pytest.fail("words need no known items"))(new, run.item_tables)
    torch.testing.assert_close(rows.tables["vectors"], run.item_tables["vectors"][1:3])
    tables = append_rows(run.item_tables, rows)
    scorer = system.scorer_over(tables)
    with torch.inference_mode():
        listed, _ = scorer.best(torch.tensor([[26, 2]]), torch.tensor([2]), 27)
    assert scorer.num_items == 27
    assert {26, 27} <= set(listed[0].tolist())


def test_it_resumes_with_the_same_bits(data: Dataset, trained: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"config": config(), "device": "cpu"}

    def stop(validations: int, metrics: dict[str, float]) -> None:
        if validations == 4:  # while the weight is chosen
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(data, "idgenrec", out=tmp_path / "cut", watch=stop, **options)
    train(data, "idgenrec", out=tmp_path / "cut", resume=True, **options)
    first, second = (load_run(path).system.state_dict() for path in (trained, tmp_path / "cut"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_tower_reads_another_catalogue_too(run: Any, tmp_path: Path) -> None:
    other = walkers(tmp_path / "other", 30)
    texts = run.system.texts_of(other.items)
    ids, _ = run.system.new_ids(texts, other.item_ids)
    run.system.blend.fill_(0.5)
    with torch.inference_mode():
        plain = run.system.scorer_of_ids(ids).score(*histories())
        both = run.system.scorer_of_ids(ids, items=other.items).score(*histories())
        vectors = run.system.tower.vectors_of(other.items)
        dense = run.system.tower.queries(*histories(), vectors) @ vectors.T
    torch.testing.assert_close(both, plain + 0.5 * dense, rtol=1e-4, atol=1e-4)
    found = zero_shot(run, other, device="cpu")
    assert set(found.systems) >= {"zero-shot", "popularity", "untrained"}


def test_what_cannot_be_is_refused() -> None:
    for changes in ({"encoder": {"kind": "bert4rec"}}, {"repeat": "learned"}):
        with pytest.raises(ConfigError, match=r"dense\.tower"):
            IDGenRecConfig.build({"dense": {"enabled": True, "tower": changes}})


def test_names_that_do_not_count_use_no_language_model(run: Any) -> None:
    for blend in BLENDS:
        run.system.blend.fill_(blend)
        assert run.system.uses_language_model == (blend < TEXT_ALONE)
