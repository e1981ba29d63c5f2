"""Language models whose weights are spread over processes train, rank, stop and go on as whole ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from seqloom.core.errors import ArtefactError
from seqloom.distributed.dtensors import gather_tensor, is_sharded
from seqloom.distributed.process_group import ProcessGroup
from seqloom.llm.generation.decoder_only import DecoderOnly
from seqloom.llm.sharding import shard_layers, shard_trained_layers
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.train.train import train
from seqloom.training.clipping import clip_gradients
from seqloom.training.state_files import read_state, write_rows
from support.datasets import SMALL_IDGENREC
from support.several_processes import Folder, assert_alike, plug_in_config, without_dropout

WHOLE = without_dropout(SMALL_IDGENREC)
SHORT = {**WHOLE, "rounds": 1, "epochs": 3, "generation": {"tagging_epochs": 1}}
FREE = {**SHORT, "clip_norm": None, "warmup_steps": 0}
STOPS = 10
"""Within the recommender's second epoch."""
CPU = torch.device("cpu")


@pytest.fixture
def group() -> Iterator[ProcessGroup]:
    """A group of this process alone: its rows are all, but they are held and exchanged as ever."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield ProcessGroup(0, 1, 0)
    dist.destroy_process_group()


def small_llama() -> DecoderOnly:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    return DecoderOnly(LlamaForCausalLM(shape), torch.arange(20))


def states(model: DecoderOnly) -> torch.Tensor:
    return model.hidden(model.embed(torch.tensor([[1, 2, 3], [4, 5, 6]])))


@pytest.mark.parametrize("trained", [True, False])
def test_no_layer_stays_gathered_after_a_pass(group: ProcessGroup, trained: bool) -> None:
    model = small_llama()
    expected = states(model)
    body = model.network.model
    if trained:
        model.shard(CPU)
    else:
        shard_layers(model.network, CPU, [])
    torch.testing.assert_close(states(model), expected)
    assert all(map(is_sharded, body.layers.parameters()))
    assert not is_sharded(body.embed_tokens.weight)


def test_layers_that_are_gathered_in_half_precision_train_as_under_autocast(
    group: ProcessGroup,
) -> None:
    whole, spread = small_llama(), small_llama()
    shard_trained_layers(spread.network, CPU, torch.bfloat16)
    for model in (whole, spread):
        with torch.autocast("cpu", torch.bfloat16):
            loss = states(model).square().sum()
        loss.backward()
    for a, b in zip(whole.parameters(), spread.parameters(), strict=True):
        assert b.dtype == b.grad.dtype == torch.float32
        torch.testing.assert_close(gather_tensor(b.grad), a.grad, rtol=0.05, atol=0.05)


def test_gradients_are_clipped_as_those_of_a_whole_model(group: ProcessGroup) -> None:
    whole, spread = small_llama(), small_llama()
    shard_trained_layers(spread.network, CPU)
    for model in (whole, spread):
        states(model).square().sum().backward()
        clip_gradients(model, 0.01, group)
    for a, b in zip(whole.parameters(), spread.parameters(), strict=True):
        torch.testing.assert_close(gather_tensor(b.grad), a.grad)


def test_a_whole_copy_gives_the_same_output_and_does_not_change_with_training(
    group: ProcessGroup,
) -> None:
    model = small_llama()
    assert model.whole() is model
    expected = states(model).detach()
    model.shard(CPU)
    before = torch.get_rng_state()
    copy = model.whole()
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(map(is_sharded, copy.parameters()))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    torch.testing.assert_close(states(copy), expected)


def test_rows_on_disk_are_read_by_a_whole_model_and_by_a_spread_one(
    group: ProcessGroup, tmp_path: Path
) -> None:
    model = small_llama()
    plain = {name: value.clone() for name, value in model.state_dict().items()}
    model.shard(CPU)
    more = {"step": torch.tensor(3.0), "made": torch.tensor(-1), "ids": torch.arange(6).view(2, 3)}
    write_rows(tmp_path / "model", {**model.state_dict(), **more}, group)
    actual = read_state(tmp_path / "model", lambda name: None)
    assert actual.keys() == plain.keys() | more.keys()
    for name, value in {**plain, **more}.items():
        assert torch.equal(actual[name], value), name
        assert actual[name].dtype == value.dtype
    again = read_state(tmp_path / "model", model.state_dict().get)
    assert any(map(is_sharded, again.values()))
    for name, value in plain.items():
        assert torch.equal(gather_tensor(again[name]), value), name


def test_a_file_that_is_missing_or_damaged_is_reported(group: ProcessGroup, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_rows(folder, small_llama().state_dict(), group)
    (file,) = folder.glob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtefactError, match="is damaged"):
        read_state(folder, lambda name: None)
    file.unlink()
    with pytest.raises(ArtefactError, match="0 safetensors files of the 1"):
        read_state(folder, lambda name: None)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Jobs by one process and, spread, by two; each of them breaks one off, and two go on with one's."""
    folder = Folder(tmp_path_factory.mktemp("spread"))
    frozen = {"system": "e4srec", "config": plug_in_config(folder.llama, epochs=2), "every_s": 99}
    whole = {"system": "idgenrec", "config": WHOLE, "every_s": 99}
    summed = {
        "system": "idgenrec",
        "config": FREE,
        "every_s": 99,
        "gradients": True,
        "stops": STOPS,
    }
    short = {"system": "idgenrec", "config": SHORT}
    broken = {**short, "stops": STOPS}
    jobs: dict[str, Any] = {"frozen": frozen, "whole": whole, "short": short, "summed": summed}
    folder.run({**jobs, "broken": broken}, "one", 1)
    gone_on = {**short, "out": str(folder.out("one", "broken"))}
    jobs = {
        "frozen": frozen,
        "whole": whole,
        "summed": summed,
        "broken": broken,
        "gone on": gone_on,
    }
    folder.run({name: {**job, "fsdp": True} for name, job in jobs.items()}, "two", 2)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("job", ["frozen", "whole"])
def test_spread_weights_have_the_losses_and_metrics_of_whole_ones(both: Folder, job: str) -> None:
    assert_alike(both, ("one", job), ("two", job))


@pytest.mark.slow
def test_gradients_are_summed_over_processes_and_not_averaged(both: Folder) -> None:
    one, two = (both.read(name, "summed", "losses.json") for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        assert b == pytest.approx(a, rel=1e-5)


@pytest.mark.slow
def test_the_run_is_that_of_one_process(both: Folder) -> None:
    one, two = (load_file(both.out(n, "whole") / "weights.safetensors") for n in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5, msg=name)
    assert not (both.out("two", "whole") / "checkpoints").exists()


@pytest.mark.slow
def test_two_processes_go_on_with_the_run_of_one(both: Folder) -> None:
    whole, rest = (both.read("one", job, "losses.json") for job in ("short", "broken"))
    assert len(rest) == len(whole) - STOPS
    for a, b in zip(whole[STOPS:], rest, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
    assert_ends_alike(both, "one")


@pytest.mark.slow
def test_one_process_resumes_the_run_of_two(both: Folder) -> None:
    out = both.out("two", "broken")
    last = out / "checkpoints" / "last"
    assert len([*(last / "model").glob("*.safetensors")]) == 2
    assert len([*(last / "optimiser").glob("*.safetensors")]) == 2
    train(both.data, "idgenrec", out=out, config=SHORT, resume=True, device="cpu")
    assert_ends_alike(both, "two")


def assert_ends_alike(folder: Folder, name: str) -> None:
    out = folder.out(name, "broken")
    rows = [
        [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        for run in (folder.out("one", "short"), out)
    ]
    for whole, resumed in zip(*rows, strict=True):
        assert resumed["train"] == pytest.approx(whole["train"], rel=1e-5)
        assert resumed.get("valid") == pytest.approx(whole.get("valid"))
    actual = evaluate(out, device="cpu").model_dump(mode="json")
    assert actual["metrics"] == folder.read("one", "short", "metrics.json")["metrics"]
