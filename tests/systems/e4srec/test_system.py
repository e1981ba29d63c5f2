"""E4SRec: positions, the shared instruction, what is trained, and the variants that the paper tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset
from seqloom.llm.plugins.alpaca import RESPONSE, prompt_before_input
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.e4srec import scorer
from seqloom.systems.e4srec.config import E4SRecConfig
from seqloom.systems.e4srec.phases import prompt_rows
from seqloom.systems.e4srec.system import E4SRec
from support.datasets import SMALL
from support.language_models import save_tiny_bert, shared_tiny_llama

WIDTH = 16
HISTORIES = Sequences.from_lists([[3, 9, 27, 5, 11], [7], [4, 4, 1], list(range(1, 9))])


def build(dataset: Dataset, **changes: Any) -> E4SRec:
    """A system with an adapter that changes something."""
    changes.setdefault("llm", {"name": str(shared_tiny_llama())})
    keys = {"max_len": 8, "batch_size": 16, "candidates": "ids"}
    config = E4SRecConfig.build({**keys, **changes})
    torch.manual_seed(0)
    system = E4SRec(config, Sizes(num_items=dataset.num_items, id_size=WIDTH))
    system.initialise(TrainingData(dataset, ids=torch.randn(dataset.num_items, WIDTH)))
    with torch.no_grad():
        for value in system.reader.adapter.weights.values():
            value.normal_(std=0.2)
    return system.eval()


@pytest.fixture(scope="module")
def causal(dataset: Dataset) -> E4SRec:
    return build(dataset)


@pytest.fixture(scope="module")
def prompted(dataset: Dataset) -> E4SRec:
    return build(dataset, mode="prompt")


@pytest.fixture(scope="module")
def bidirectional(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> E4SRec:
    folder = save_tiny_bert(tmp_path_factory.mktemp("bert"))
    return build(dataset, mode="prompt", llm={"name": str(folder), "kind": "bidirectional"})


def whole_prompt(system: E4SRec, items: list[Any]) -> Any:
    """The authors' way: one history's whole prompt in one pass, a position a token."""
    base, reader = system.base, system.reader
    before = base.embed(
        base.tokenizer(prompt_before_input(system.config.prompt.instruction))["input_ids"]
    )
    ids = system.reader.projection(system.ids[torch.tensor(items) - 1])
    parts = [before, ids]
    if reader.respond:
        after = base.tokenizer(RESPONSE, add_special_tokens=False)["input_ids"]
        parts.append(base.embed(after))
    with torch.no_grad():
        return reader.adapter.run(torch.cat(parts)[None]).last_hidden_state[0]


def queries(system: E4SRec, histories: Sequences) -> Any:
    batch = histories.pad()
    with torch.inference_mode():
        return system.scorer().queries(batch.items, batch.lengths)


@pytest.fixture(params=["one by one", "layer by layer"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of reading histories; the second is for many of them."""
    monkeypatch.setattr(scorer, "_MANY_ITEMS", 0 if request.param == "layer by layer" else 1 << 60)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("which", ["causal", "prompted", "bidirectional"])
def test_the_shared_instruction_gives_what_the_whole_prompt_gives(
    which: str, request: pytest.FixtureRequest
) -> None:
    system = request.getfixturevalue(which)
    actual = queries(system, HISTORIES)
    for row, (start, end) in enumerate(zip(HISTORIES.starts, HISTORIES.ends, strict=True)):
        expected = whole_prompt(system, HISTORIES.items[start:end].tolist())[-1]
        torch.testing.assert_close(actual[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(("tokens", "rows"), [(8, 64), (2048, 2), (1, 1)])
def test_the_cut_into_parts_changes_nothing(
    causal: E4SRec, monkeypatch: pytest.MonkeyPatch, tokens: int, rows: int
) -> None:
    whole = queries(causal, HISTORIES)
    monkeypatch.setitem(scorer._TOKENS_AT_ONCE, "cpu", tokens)
    monkeypatch.setitem(scorer._ROWS_AT_ONCE, "cpu", rows)
    torch.testing.assert_close(queries(causal, HISTORIES), whole, rtol=1e-4, atol=1e-5)


def test_training_and_inference_see_the_same_positions(causal: E4SRec) -> None:
    batch = HISTORIES.pad()
    with torch.inference_mode():
        states = causal.states(batch.items, batch.lengths)
    for length in (1, 3, 5):
        prefix = Sequences.from_lists([[3, 9, 27, 5, 11][:length]])
        actual = queries(causal, prefix)[0]
        torch.testing.assert_close(states[0, length - 1], actual, rtol=1e-4, atol=1e-5)


def test_a_later_item_changes_no_earlier_state(causal: E4SRec) -> None:
    items = torch.tensor([[3, 9, 27, 5, 11], [3, 9, 27, 5, 30]])
    with torch.inference_mode():
        first, second = causal.states(items, torch.tensor([5, 5]))
    torch.testing.assert_close(first[:4], second[:4])
    assert not torch.allclose(first[4], second[4])


@pytest.mark.usefixtures("path")
def test_an_empty_history_is_the_instruction_alone(causal: E4SRec) -> None:
    with torch.inference_mode():
        actual = causal.scorer().queries(torch.zeros(1, 1, dtype=torch.int64), torch.tensor([0]))
    expected = whole_prompt(causal, [1])[-2]
    torch.testing.assert_close(actual[0], expected, rtol=1e-4, atol=1e-5)


def test_a_language_model_that_sees_both_sides_needs_prompts() -> None:
    with pytest.raises(ConfigError, match="needs mode=prompt"):
        E4SRecConfig.build({"llm": {"kind": "bidirectional"}})


def test_gradients_reach_projection_adapter_and_head_alone(causal: E4SRec) -> None:
    causal.zero_grad()
    batch = HISTORIES.pad()
    (causal.states(batch.items, batch.lengths)[:, 0] @ causal.head.t()).square().mean().backward()
    trained = {name for name, p in causal.named_parameters() if p.grad is not None}
    causal.zero_grad()
    assert {"head", "reader.projection.weight", "reader.projection.bias"} <= trained
    rest = trained - {"head", "reader.projection.weight", "reader.projection.bias"}
    assert rest
    assert all("lora_" in name for name in rest)
    assert "ids" not in trained
    base = causal.base.backbone.named_parameters()
    assert not any(p.requires_grad for name, p in base if "lora_" not in name)


def test_the_start_ranks_items_by_their_ids(dataset: Dataset) -> None:
    """Head rows are the ID embeddings, turned: their products are the ids' products."""
    system = build(dataset)
    actual, ids = system.head @ system.head.t(), system.ids @ system.ids.t()
    torch.testing.assert_close(actual / actual.trace(), ids / ids.trace(), rtol=1e-3, atol=1e-5)
    assert not torch.allclose(build(dataset, start="random").head, system.head)


def test_ids_that_are_not_scaled_are_those_of_the_recommender(dataset: Dataset) -> None:
    torch.manual_seed(0)
    given = 7 * torch.randn(dataset.num_items, WIDTH)
    plain, scaled = (
        E4SRec(
            E4SRecConfig.build(
                {
                    "llm": {"name": str(shared_tiny_llama())},
                    "scale_ids": scale,
                    "candidates": "ids",
                }
            ),
            Sizes(num_items=dataset.num_items, id_size=WIDTH),
        )
        for scale in (False, True)
    )
    for system in (plain, scaled):
        torch.manual_seed(1)
        system.initialise(TrainingData(dataset, ids=given))
    assert torch.equal(plain.ids, given)
    assert float(scaled.ids.square().mean()) == pytest.approx(1, abs=1e-5)
    # The language model reads the same at the start, and the same items are ranked first.
    first, second = (system.reader.projection(system.ids) for system in (plain, scaled))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(plain.head, scaled.head)


@pytest.mark.parametrize("mode", ["causal", "prompt"])
def test_a_step_of_training_lowers_the_loss(dataset: Dataset, mode: str) -> None:
    system = build(dataset, mode=mode, dropout=0.0, lora={"dropout": 0.0}).train()
    (phase,) = system.phases(TrainingData(dataset))
    batch = phase.steps(0)[0]
    optimiser = torch.optim.AdamW([p for p in system.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        value = phase.loss(batch)["loss"].value
        value.backward()
        optimiser.step()
        losses.append(value.item())
    assert losses[-1] < 0.8 * losses[0]


def test_both_modes_have_the_same_targets(dataset: Dataset) -> None:
    data = TrainingData(dataset)
    counts = []
    for mode in ("causal", "prompt"):
        (phase,) = build(dataset, mode=mode).phases(data)
        steps = phase.steps(0)
        counts.append(sum(steps[i].num_targets for i in range(len(steps))))
    assert counts[0] == counts[1] == int((dataset.train.lengths - 1).clamp(min=0).sum())


def test_every_target_has_a_prompt_with_the_items_before_it() -> None:
    train = Sequences.from_lists([[1, 2, 3, 4, 5], [6], [7, 8]])
    rows = prompt_rows(train, max_len=3)
    actual = [
        rows.items.items[s:e].tolist()
        for s, e in zip(rows.items.starts, rows.items.ends, strict=True)
    ]
    assert actual == [[1, 2], [1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [7, 8]]
    assert rows.users.tolist() == [0, 0, 0, 0, 2]
    assert rows.is_last.tolist() == [False, False, False, True, True]


VARIANTS: dict[str, dict[str, Any]] = {
    "prompt": {"mode": "prompt"},
    "head only": {"train_adapter": False},
    "random start": {"start": "random"},
    "random language model": {"llm": {"start": "random"}},
    "one layer": {"llm": {"num_layers": 1}},
    "sampled loss": {"loss": {"kind": "sampled-softmax", "negatives": 8}},
    "last part": {"long_histories": "last"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_and_loads(dataset: Dataset, tmp_path: Path, variant: str) -> None:
    from seqloom.pipelines.train.train import train
    from seqloom.runs.folder import load_run

    changes: dict[str, Any] = VARIANTS[variant]
    llm = {"name": str(shared_tiny_llama()), **changes.get("llm", {})}
    config: dict[str, Any] = {"epochs": 1, "batch_size": 16, "max_len": 8, "ids": {"config": SMALL}}
    config["candidates"] = "ids"
    train(dataset, "e4srec", out=tmp_path / "run", config={**config, **changes, "llm": llm})
    run = load_run(tmp_path / "run")
    assert run.manifest.base["num_layers"] == llm.get("num_layers", 2)
    ids = dict(run.system.named_buffers())["ids"]
    ids_system: Any = load_run(tmp_path / "run" / "ids").system
    again = ids_system.item_vectors().detach()
    expected = again / again.square().mean().sqrt()
    torch.testing.assert_close(ids, expected, rtol=1e-3, atol=1e-4)


def test_the_key_for_gradient_checkpointing_reaches_the_language_model(dataset: Dataset) -> None:
    llm = {"name": str(shared_tiny_llama()), "gradient_checkpointing": True}
    losses = []
    for again in (True, False):
        system = build(dataset, llm={**llm, "gradient_checkpointing": again}).train()
        assert system.reader.adapter.gradient_checkpointing is again
        data = TrainingData(dataset, ids=torch.randn(dataset.num_items, WIDTH))
        phase: Any = system.phases(data)[0]
        assert phase.replays is not again
        torch.manual_seed(5)
        loss = phase.loss(phase.steps(0)[0])["loss"].value
        loss.backward()
        losses.append((loss.detach(), system.reader.projection.weight.grad))
    torch.testing.assert_close(losses[0], losses[1])
