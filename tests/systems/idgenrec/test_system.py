"""The system as a whole: rounds, pruning, few-shot, live items, the beam against exact search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.protocols import NewItems
from seqloom.data.store import Dataset
from seqloom.llm.generation.prefix_tree import PAD
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import Run, load_run
from seqloom.runs.new_items import append_rows
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.idgenrec.ids import words_only
from seqloom.systems.idgenrec.system import IDGenRec
from support.datasets import SMALL_IDGENREC, walkers


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return walkers(tmp_path_factory.mktemp("data") / "d")


def config(**changes: Any) -> dict[Any, Any]:
    return {**SMALL_IDGENREC, **changes}


def build(data: Dataset, **changes: Any) -> IDGenRec:
    torch.manual_seed(0)
    system = IDGenRec(IDGenRec.config_class.build(config(**changes)), Sizes(num_items=25))
    system.initialise(TrainingData(data))
    system.make_ids(0)
    return system.eval()


@pytest.fixture(scope="module", params=["t5", "llama"])
def run(
    request: pytest.FixtureRequest, data: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    out = tmp_path_factory.mktemp("runs") / request.param
    shape = {**SMALL_IDGENREC["recommender"], "source": request.param}
    train(data, "idgenrec", out=out, config=config(recommender=shape), device="cpu")
    return load_run(out)


def histories() -> tuple[torch.Tensor, torch.Tensor]:
    items = torch.tensor([[1, 4, 7, 10], [2, 3, 0, 0], [0, 0, 0, 0]])
    return items, torch.tensor([4, 2, 0])


def test_the_phases_alternate_and_each_round_has_its_ids(run: Any, data: Dataset) -> None:
    assert [row["phase"] for row in run.log] == [
        "tagging", "recommender-1", "generator-1", "recommender-2"
    ]  # fmt: skip
    assert run.manifest.best_phase == f"recommender-{int(run.system.made) + 1}"
    assert len(set(run.system.words())) == 25
    # The IDs of the run are those that its generator gives.
    texts = run.system.texts_of(data.items)
    maker: Any = run.system.maker(run.system.language)
    ids, _ = maker.make(texts, data.item_ids, run.system.prompts_of(texts))
    assert torch.equal(ids, run.system.ids[1:])


def test_the_generator_is_trained_by_its_phase_and_the_recommender_is_not(data: Dataset) -> None:
    system = build(data)
    (phase,) = [p for p in system.phases(TrainingData(data)) if p.name == "generator-1"]
    before = {n: p.clone() for n, p in system.named_parameters()}
    optimiser = torch.optim.SGD(phase.module.parameters(), lr=0.1)
    phase.loss(phase.steps(0)[0])["loss"].value.backward()
    optimiser.step()
    changed = {
        n.split(".")[0] for n, p in system.named_parameters() if not torch.equal(p, before[n])
    }
    assert changed == {"generator"}
    assert all(p.grad is None for p in system.recommender.parameters())
    assert all(p.requires_grad for p in system.recommender.parameters())


def test_targets_are_those_of_the_present_ids(data: Dataset) -> None:
    system = build(data)
    phase = next(p for p in system.phases(TrainingData(data)) if p.name == "recommender-1")
    batch = phase.steps(0)[0]
    torch.manual_seed(0)
    first = phase.loss(batch)["loss"].value.item()
    system.ids[1:] = system.ids[1:].flip(0)
    system._table = None
    torch.manual_seed(0)
    assert phase.loss(batch)["loss"].value.item() != first


@pytest.mark.parametrize("source", ["t5", "llama"])
def test_a_pruned_vocabulary_changes_no_result(data: Dataset, source: str) -> None:
    shape = {**SMALL_IDGENREC["recommender"], "source": source}
    whole = build(data, recommender=shape, prune_vocabulary=False)
    small = build(data, recommender=shape)
    state = whole.recommender.state_dict()
    kept = small.language.kept
    rows = small.recommender.network.get_input_embeddings().weight.shape[0]
    assert rows == len(kept) < len(whole.language.tokenizer)
    cut = {n: v[kept] if len(v) == len(whole.language.tokenizer) else v for n, v in state.items()}
    small.recommender.load_state_dict(cut)
    small.ids.copy_(whole.ids)
    with torch.inference_mode():
        first, second = (s.scorer().score(*histories()) for s in (whole, small))
    assert torch.equal(first, second)


def test_the_beam_lists_what_the_exact_scores_rank_first(run: Any) -> None:
    items, lengths = histories()
    with torch.inference_mode():
        scores = run.scorer.score(items, lengths)
        actual, values = run.scorer.best(items, lengths, 25)
    expected = scores.sort(dim=1, descending=True)
    torch.testing.assert_close(values, expected.values, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores.gather(1, actual - 1), expected.values, rtol=1e-4, atol=1e-4)


def test_a_length_penalty_divides_scores_by_the_tokens_of_the_id(data: Dataset) -> None:
    plain = build(data, likelihood="text")
    divided: Any = build(data, likelihood="text", length_penalty=1.0)
    divided.load_state_dict(plain.state_dict())
    lengths = (plain.ids[1:] != PAD).sum(1)  # words and end mark
    with torch.inference_mode():
        expected = plain.scorer().score(*histories()) / lengths
        scores = divided.scorer().score(*histories())
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
        actual, values = divided.scorer().best(*histories(), 25)
        requested = torch.tensor([[3, 9]] * 3)
        some = divided.scorer().score_candidates(*histories(), requested)
    order = expected.sort(dim=1, descending=True)
    torch.testing.assert_close(values, order.values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores.gather(1, actual - 1), values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(some, expected[:, [2, 8]], rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="set likelihood=text"):
        IDGenRec.config_class.build({"length_penalty": 1.0})


def test_each_history_comes_with_as_many_prompts_as_requested(data: Dataset) -> None:
    counts = []
    for times in (1, 3):
        system = build(data, prompts_per_history=times)
        phase = next(p for p in system.phases(TrainingData(data)) if p.name == "recommender-1")
        plan = phase.steps(0)
        counts.append(sum(len(plan[step]) for step in range(len(plan))))
    assert counts[1] == 3 * counts[0]


def test_exact_decoding_is_a_scorer_without_lists(data: Dataset) -> None:
    scorer = build(data, decoding="exact").scorer()
    assert not hasattr(scorer, "best")


def test_a_new_item_is_named_and_found_immediately(data: Dataset) -> None:
    system = build(data)
    before = system.words()
    tables = system.item_tables()
    new = NewItems(["new"], pa.table({"item_id": ["new"], "title": ["blue hair oil"]}))
    rows = system.rows_of(lambda: pytest.fail("nothing is to be fitted"))(new, tables)
    (name,) = system.words(rows.tables["ids"])
    assert name not in before
    scorer: Any = system.scorer_over(append_rows(tables, rows))
    assert (scorer.num_items, system.scorer().num_items, system.words()) == (26, 25, before)
    with torch.inference_mode():
        actual, _ = scorer.best(*histories(), 26)
        with_new, _ = scorer.best(torch.tensor([[26, 1]]), torch.tensor([2]), 5)
    assert (actual == 26).sum(1).tolist() == [1, 1, 1]
    assert (with_new > 0).all()


def test_some_items_are_scored_as_among_all(data: Dataset) -> None:
    scorer: Any = build(data).scorer()
    numbers = torch.tensor([7, 3, 25])
    with torch.inference_mode():
        some = scorer.restrict_to(numbers)
        expected = scorer.score(*histories())[:, numbers - 1]
        torch.testing.assert_close(some.score(*histories()), expected, rtol=1e-4, atol=1e-5)
    assert some.num_items == 3


def test_training_continues_from_a_run(run: Any, data: Dataset, tmp_path: Path) -> None:
    settings = config(start_from=str(run.path), epochs=0, rounds=1, generation={})
    train(data, "idgenrec", out=tmp_path / "more", config=settings, device="cpu")
    more: Any = load_run(tmp_path / "more").system
    assert more.words() == run.system.words()
    first, second = (s.recommender.state_dict() for s in (run.system, more))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_windows_need_a_decoder_only_model(data: Dataset) -> None:
    shape = {**SMALL_IDGENREC["recommender"], "source": "t5"}
    system = build(data, recommender=shape, samples="windows")
    with pytest.raises(ConfigError, match="samples=prefixes"):
        system.phases(TrainingData(data))


def test_a_prompt_that_is_not_there_is_refused(data: Dataset) -> None:
    with pytest.raises(ConfigError, match="prompts 0 to 10"):
        build(data, template=11).scorer()


def test_damaged_words_are_noticed(run: Run, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    (copy / "model" / "words.json").write_text("{}")
    with pytest.raises(ArtefactError, match=r"words\.json (is missing|was damaged or changed)"):
        load_run(copy)


def test_seen_items_are_masked_inside_the_beam(run: Any) -> None:
    items, lengths = histories()
    seen = torch.tensor([[1, 4, 7, 10], [2, 3, 5, 6], [0, 0, 0, 0]])
    actual, _ = run.scorer.best(items, lengths, 20, seen)
    for row, masked in zip(actual.tolist(), seen.tolist(), strict=True):
        assert 0 not in row
        assert len(set(row)) == 20
        assert not set(row) & set(masked)
    assert len(words_only(run.system.ids[1:])) == 25


def test_the_key_for_gradient_checkpointing_reaches_one_network(data: Dataset) -> None:
    shape = {**SMALL_IDGENREC["recommender"], "gradient_checkpointing": True}
    system = build(data, recommender=shape)
    assert system.recommender.network.is_activation_checkpointing
    assert not system.generator.network.is_activation_checkpointing
