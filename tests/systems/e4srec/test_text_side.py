"""Candidates as words: a score that starts as that of a text tower, and what the language model adds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from seqloom.core.errors import ConfigError
from seqloom.core.protocols import NewItems
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset
from seqloom.pipelines.estimate.plan import plan
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import Run, load_run
from seqloom.runs.new_items import add_new_items
from seqloom.systems.base import Member, Sizes, TrainingData
from seqloom.systems.e4srec import scorer
from seqloom.systems.e4srec.config import E4SRecConfig
from seqloom.systems.e4srec.system import E4SRec
from seqloom.systems.tail_blend import RememberingBlendPhase
from seqloom.systems.view_phase import TEXT_ALONE
from support.datasets import SMALL, tiny_dataset
from support.language_models import save_tiny_bert, shared_tiny_llama

WIDTH = 16
HISTORIES = Sequences.from_lists([[3, 9, 27, 5, 11], [7], [4, 4, 1], list(range(1, 9)), []])


def keys(**changes: Any) -> dict[str, Any]:
    model = {"name": str(shared_tiny_llama()), "num_layers": 1}
    own = {"epochs": 1, "batch_size": 16, "max_len": 8, "llm": model, "tower": SMALL}
    return {**own, "candidates": "words", **changes}


def build(dataset: Dataset, **changes: Any) -> E4SRec:
    """An untrained system in which the language model takes part."""
    config = E4SRecConfig.build(keys(**changes))
    torch.manual_seed(0)
    system = E4SRec(config, Sizes(num_items=dataset.num_items, id_size=WIDTH))
    system.initialise(TrainingData(dataset, ids=torch.randn(dataset.num_items, WIDTH)))
    assert system.text is not None
    with torch.no_grad():
        system.text.gate.normal_()
        for value in system.reader.adapter.weights.values():
            value.normal_(std=0.2)
    return system.eval()


def queries(system: E4SRec, histories: Sequences = HISTORIES) -> torch.Tensor:
    batch = histories.pad(8)
    with torch.inference_mode():
        states: torch.Tensor = system.scorer().queries(batch.items, batch.lengths)
    return states


@pytest.fixture(scope="module")
def giver(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained SASRec."""
    path = tmp_path_factory.mktemp("giver") / "sasrec"
    train(dataset, "sasrec", out=path, config={**SMALL, "epochs": 3}, device="cpu")
    return path


@pytest.fixture(scope="module")
def trained(dataset: Dataset, giver: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words") / "run"
    train(dataset, "e4srec", out=path, config=keys(ids={"run": str(giver)}), device="cpu")
    return path


def test_a_state_is_the_direction_of_text_and_gated_language_model(dataset: Dataset) -> None:
    system = build(dataset)
    text: Any = system.text
    vectors = text.tower.item_vectors()
    weights = text.tower.recency.log_weights.exp()
    history = [4, 4, 1]
    ages = zip(reversed(history), weights, strict=False)
    summed = sum(weight * vectors[item - 1] for item, weight in ages)
    rows = torch.tensor(history) - 1
    inputs = torch.cat([system.ids[rows], vectors[rows] * text.size**0.5], 1)
    with torch.no_grad():
        read = system.reader(inputs[None], torch.tensor([3]))[0, -1]
        added = text.gate * (text.projection.weight @ read + text.projection.bias)
        want = F.normalize(F.normalize(summed, dim=0) + added, dim=0)
    found = queries(system)[2]
    torch.testing.assert_close(found, want * text.tower.log_scale.exp(), rtol=1e-4, atol=1e-4)


def test_with_the_gate_at_zero_it_is_the_text_tower_and_reads_nothing(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = build(dataset)
    text: Any = system.text
    with torch.no_grad():
        text.gate.zero_()
    monkeypatch.setattr(system, "read_last", lambda *_: pytest.fail("the language model is read"))
    batch = HISTORIES.pad(8)
    own = text.tower.queries(batch.items, batch.lengths, text.tower.item_vectors())
    torch.testing.assert_close(queries(system), own)


def test_the_text_alone_leaves_the_giver_out(dataset: Dataset, giver: Path) -> None:
    system = build(dataset, ids={"run": str(giver)})
    system._take(Member("giver", load_run(giver).system))
    system.blend.fill_(TEXT_ALONE)
    batch = HISTORIES.select(torch.arange(4)).pad(8)
    with torch.inference_mode():
        scores = system.scorer().score(batch.items, batch.lengths)
        read = system.last_states(batch.items, batch.lengths)
        torch.testing.assert_close(scores, read @ system.candidates().T)


@pytest.mark.parametrize("many", [0, 1 << 60])
def test_training_and_inference_agree(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr(scorer, "_MANY_ITEMS", many)
    system = build(dataset)
    batch = HISTORIES.select(torch.tensor([0, 1, 2, 3])).pad()
    with torch.inference_mode():
        states = system.states(batch.items, batch.lengths)
        last = system.last_states(batch.items, batch.lengths)
    inside = states[torch.arange(4), batch.lengths - 1]
    torch.testing.assert_close(last, inside, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(queries(system)[:4], inside, rtol=1e-4, atol=1e-4)


def test_the_text_learns_first_and_the_language_model_only_adds(trained: Path, giver: Path) -> None:
    run = load_run(trained)
    log = (trained / "log.jsonl").read_text()
    assert [name for name in ("text", "text-blend", "train", "blend") if f'"{name}"' in log] == [
        "text",
        "text-blend",
        "train",
        "blend",
    ]
    assert run.manifest.valid["ndcg@10"] >= load_run(giver).manifest.valid["ndcg@10"] - 1e-3


def test_the_choice_of_the_weight_reads_each_history_once(
    dataset: Dataset, giver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = build(dataset, ids={"run": str(giver)})
    system._take(Member("giver", load_run(giver).system))
    batch = HISTORIES.pad(8)
    read: list[int] = []
    real = system.reader.forward

    def counted(*arguments: Any) -> Any:
        read.append(len(arguments[0]))
        return real(*arguments)

    phase = RememberingBlendPhase("blend", system, "blend", (0.0, 0.5, 2.0))
    monkeypatch.setattr(system.reader, "forward", counted)
    scores = []
    for epoch in range(3):
        assert len(phase.steps(epoch)) == 0
        with torch.inference_mode():
            scores.append(system.scorer().score(batch.items, batch.lengths))
        if not epoch:
            once = len(read)
    assert once == len(read) > 0
    torch.testing.assert_close(scores[2] - scores[0], 4 * (scores[1] - scores[0]))
    system.begin_training()
    with torch.inference_mode():
        plain = system.scorer().score(batch.items, batch.lengths)
    assert len(read) > once, "after a step of training they are read again"
    torch.testing.assert_close(plain, scores[2])


def test_the_columns_of_giver_and_text_add_up_to_the_score(trained: Path) -> None:
    run = load_run(trained)
    system: Any = run.system
    made = system.scorer()
    batch = HISTORIES.pad(8)
    with torch.inference_mode():
        found = made.queries(batch.items, batch.lengths)
        parts = [found[:, at] @ made.item_vectors[:, at].T for at in system.view_columns().values()]
        whole = made.score(batch.items, batch.lengths)
    assert [*system.view_columns()] == ["giver", "text"]
    torch.testing.assert_close(sum(parts), whole)


def test_a_new_item_stands_where_its_words_do(trained: Path) -> None:
    run: Run = load_run(trained)
    system: Any = run.system
    new = run.items.slice(4, 2)
    reader = system.rows_of(lambda: pytest.fail("words need no known items"))
    rows = reader(NewItems(["x", "y"], new), run.item_tables)
    torch.testing.assert_close(rows.tables["vectors"], run.item_tables["vectors"][4:6])
    assert rows.tables["ids"].shape == (2, WIDTH)
    renamed = new.set_column(0, "item_id", [["x", "y"]])
    before = run.scorer.num_items
    add_new_items(run, renamed)
    scores = run.scorer.score(torch.tensor([[5, before + 1]]), torch.tensor([2]))
    assert scores.shape == (1, before + 2)
    assert torch.isfinite(scores).all()


def test_it_resumes_with_the_same_bits(dataset: Dataset, giver: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"config": keys(ids={"run": str(giver)}, epochs=2), "device": "cpu"}
    train(dataset, "e4srec", out=tmp_path / "whole", **options)

    def stop(validations: int, metrics: dict[str, float]) -> None:
        if validations == 13:  # within the language model's phase
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(dataset, "e4srec", out=tmp_path / "cut", watch=stop, **options)
    train(dataset, "e4srec", out=tmp_path / "cut", resume=True, **options)
    first, second = (load_run(tmp_path / n).system.state_dict() for n in ("whole", "cut"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_without_the_language_model_only_the_text_is_trained(
    dataset: Dataset, giver: Path, tmp_path: Path
) -> None:
    config = keys(ids={"run": str(giver)}, use_llm=False)
    done = train(dataset, "e4srec", out=tmp_path / "run", config=config, device="cpu")
    system: Any = load_run(tmp_path / "run").system
    assert not system.text.reads_states
    words = system.text.tower.words
    trained = words.vectors.numel() + words.log_weights.numel() + 8 + 1
    assert done.trained_parameters == trained


@pytest.mark.parametrize("mode", ["prompt", "bidirectional"])
def test_prompts_have_candidates_of_words_too(
    dataset: Dataset, giver: Path, tmp_path: Path, mode: str
) -> None:
    changes: dict[str, Any] = {"mode": "prompt", "ids": {"run": str(giver)}}
    if mode == "bidirectional":
        folder = save_tiny_bert(tmp_path / "bert")
        changes["llm"] = {"name": str(folder), "kind": "bidirectional"}
    train(dataset, "e4srec", out=tmp_path / "run", config=keys(**changes), device="cpu")
    scores = load_run(tmp_path / "run").scorer.score(torch.tensor([[1, 2]]), torch.tensor([2]))
    assert torch.isfinite(scores).all()


def test_a_plan_tries_its_phases(dataset: Dataset, giver: Path) -> None:
    tried = plan(dataset, "e4srec", config=keys(ids={"run": str(giver)}), device="cpu")
    assert tried.how == "tried"
    assert [phase.name for phase in tried.phases] == ["text", "text-blend", "train", "blend"]
    drawn = plan(dataset, "e4srec", config=keys(ids={"config": SMALL}), device="cpu")
    assert [phase.name for phase in drawn.phases] == ["text", "train"]


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use_llm=true"):
        E4SRecConfig.build({"candidates": "ids", "use_llm": False})
    with pytest.raises(ConfigError, match=r"tower\.epochs=0 train nothing"):
        E4SRecConfig.build(keys(use_llm=False, tower={"epochs": 0}))
    with pytest.raises(ConfigError, match="causal encoder"):
        E4SRecConfig.build(keys(tower={"encoder": {"kind": "bert4rec"}}))
    blank = tiny_dataset(tmp_path / "blank", [[1, 2, 3, 4, 5]] * 4)
    without = blank.items.select(["item_id"])
    object.__setattr__(blank, "items", without)
    with pytest.raises(ConfigError, match="or set candidates=ids"):
        build(blank)


def test_a_language_model_without_weight_or_gate_takes_no_part(dataset: Dataset) -> None:
    system = build(dataset)
    assert system.text is not None
    system.blend.fill_(0.5)
    assert system.uses_language_model
    system.blend.fill_(0.0)
    giver = SimpleNamespace(uses_language_model=False, reads_text=False)
    system.giver = giver  # type: ignore[assignment]
    assert not system.uses_language_model
    assert not system.reads_text
    system.blend.fill_(0.5)
    assert system.uses_language_model
    assert system.reads_text
    with torch.no_grad():
        system.text.gate.zero_()
    assert not system.uses_language_model
    assert system.reads_text
    giver.uses_language_model = True
    assert system.uses_language_model
    system.blend.fill_(TEXT_ALONE)
    assert not system.uses_language_model
    assert system.reads_text
    assert not build(dataset, use_llm=False).uses_language_model
