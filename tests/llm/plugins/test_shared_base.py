"""One frozen base, many adapters: they take turns and never mix."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.llm.config import LanguageModelConfig, LoraSettings
from seqloom.llm.loading import load_causal_lm
from seqloom.llm.plugins.adapters import Adapter
from seqloom.llm.plugins.shared_base import SharedBase, load_shared_base
from support.language_models import save_tiny_bert, save_tiny_llama

SETTINGS = LoraSettings(rank=4, alpha=8, dropout=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("llama"), seed=5)


@pytest.fixture
def base(folder: Path) -> SharedBase:
    return load_shared_base(LanguageModelConfig(name=str(folder)))


def adapter(base: SharedBase, seed: int, settings: LoraSettings = SETTINGS) -> Adapter:
    """An adapter that changes something: a fresh one starts at zero."""
    made = Adapter(base, settings)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in made.weights.values():
            value.copy_(torch.randn(value.shape, generator=draw) * 0.3)
    return made.eval()


def output(adapter: Adapter, embeddings: torch.Tensor) -> Any:
    with torch.inference_mode():
        return adapter.run(embeddings).last_hidden_state.clone()


@pytest.fixture
def embeddings(base: SharedBase) -> torch.Tensor:
    return torch.randn(2, 5, base.width, generator=torch.Generator().manual_seed(3))


def test_a_fresh_adapter_changes_nothing(base: SharedBase, embeddings: torch.Tensor) -> None:
    plain, fresh = Adapter(base, None), Adapter(base, SETTINGS).eval()
    assert torch.equal(output(plain, embeddings), output(fresh, embeddings))
    assert not list(plain.parameters())


def test_an_adapter_is_the_low_rank_map_of_the_paper(
    base: SharedBase, folder: Path, embeddings: torch.Tensor
) -> None:
    made = adapter(base, 1)
    model, _ = load_causal_lm(folder)
    with torch.no_grad():
        for name, layer in model.model.named_modules():
            if name.endswith(("gate_proj", "up_proj", "down_proj")):
                down, up = (made.weights[f"{name}.lora_{part}".replace(".", "/")] for part in "AB")
                layer.weight += (8 / 4) * up @ down
        expected = model.model(inputs_embeds=embeddings).last_hidden_state
    torch.testing.assert_close(output(made, embeddings), expected)


def test_adapters_take_turns_without_mixing(base: SharedBase, embeddings: torch.Tensor) -> None:
    plain, first = Adapter(base, None), adapter(base, 1)
    alone = [output(plain, embeddings), output(first, embeddings)]
    second = adapter(base, 2)
    third = output(second, embeddings)
    assert not torch.allclose(alone[1], third)
    assert not torch.allclose(alone[0], third)
    for _ in range(2):
        assert torch.equal(output(plain, embeddings), alone[0])
        assert torch.equal(output(first, embeddings), alone[1])
        assert torch.equal(output(second, embeddings), third)


def test_threads_with_different_adapters_do_not_mix(
    base: SharedBase, embeddings: torch.Tensor
) -> None:
    made = [adapter(base, seed) for seed in range(3)]
    alone = [output(one, embeddings) for one in made]
    assert not any(torch.equal(alone[one], alone[other]) for one, other in ((0, 1), (1, 2)))
    turns = [number % 3 for number in range(60)]
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(lambda number: output(made[number], embeddings), turns))
    for number, states in zip(turns, actual, strict=True):
        assert torch.equal(states, alone[number])


def test_training_reaches_the_active_adapter_alone(
    base: SharedBase, embeddings: torch.Tensor
) -> None:
    first, second = adapter(base, 1), adapter(base, 2)
    first.train().run(embeddings).last_hidden_state.sum().backward()
    assert all(value.grad is not None for value in first.parameters())
    assert all(value.grad is None for value in second.parameters())
    base_weights = [p for n, p in base.backbone.named_parameters() if "lora_" not in n]
    assert base_weights
    assert not any(p.requires_grad for p in base_weights)


def test_dropout_is_on_in_training_alone(base: SharedBase, embeddings: torch.Tensor) -> None:
    made = adapter(base, 1).train()
    torch.manual_seed(0)
    assert not torch.equal(output(made, embeddings), output(made, embeddings))
    assert torch.equal(output(made.eval(), embeddings), output(made, embeddings))


def test_an_adapter_that_is_dropped_leaves_the_base(
    base: SharedBase, embeddings: torch.Tensor
) -> None:
    kept, dropped = adapter(base, 1), adapter(base, 2)
    before, name = output(kept, embeddings), dropped.name
    del dropped
    gc.collect()
    assert torch.equal(output(kept, embeddings), before)
    assert not [path for path, _ in base.backbone.named_modules() if path.endswith(f".{name}")]


def test_the_state_is_the_adapter_alone(base: SharedBase) -> None:
    names = set(Adapter(base, SETTINGS).state_dict())
    assert len(names) == 2 * 2 * 3  # two layers, three maps each, A and B
    assert all("lora_" in name for name in names)


def test_peft_reads_the_adapter(
    base: SharedBase, folder: Path, embeddings: torch.Tensor, tmp_path: Path
) -> None:
    from peft import LoraConfig, PeftModel
    from safetensors.torch import save_file

    made = adapter(base, 1)
    save_file(made.peft_state(), tmp_path / "adapter_model.safetensors")
    targets = ["gate_proj", "up_proj", "down_proj"]
    LoraConfig(r=4, lora_alpha=8, target_modules=targets).save_pretrained(tmp_path)
    model, _ = load_causal_lm(folder)
    loaded = PeftModel.from_pretrained(model, tmp_path)
    ours = output(made, embeddings)
    with torch.no_grad():
        expected = loaded.base_model.model.model(inputs_embeds=embeddings).last_hidden_state
        merged = loaded.merge_and_unload().model(inputs_embeds=embeddings).last_hidden_state
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(ours, merged)


def test_the_forward_pass_is_that_of_transformers(base: SharedBase, folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = [3, 7, 1, 4, 4, 9]
    with torch.inference_mode():
        expected = model(torch.tensor([tokens])).logits
        states = Adapter(base, None).run(base.embed(tokens)[None]).last_hidden_state
        actual = base.head(states)
    torch.testing.assert_close(actual, expected)


def test_one_base_in_memory_while_it_is_used(folder: Path) -> None:
    config = LanguageModelConfig(name=str(folder))
    first = load_shared_base(config)
    assert load_shared_base(config) is first
    fewer = load_shared_base(config.model_copy(update={"num_layers": 1}))
    assert fewer is not first
    assert (first.reference.num_layers, fewer.reference.num_layers) == (2, 1)
    assert first.reference.sha256 == fewer.reference.sha256


def test_random_weights_are_the_same_ones_each_time(folder: Path) -> None:
    config = LanguageModelConfig(name=str(folder), start="random")
    first = load_shared_base(config)
    weight = next(first.backbone.parameters()).clone()
    reference = first.reference
    del first
    gc.collect()
    again = load_shared_base(config)
    assert again.reference == reference
    assert torch.equal(next(again.backbone.parameters()), weight)
    pretrained = load_shared_base(LanguageModelConfig(name=str(folder)))
    assert again.reference.sha256 != pretrained.reference.sha256
    assert not torch.equal(next(pretrained.backbone.parameters()), weight)


def test_layers_that_are_not_there_are_refused(base: SharedBase) -> None:
    with pytest.raises(ConfigError, match=r"lora.targets to some of: .*gate_proj"):
        Adapter(base, LoraSettings(targets=["no_such_layer"]))
    attention = Adapter(base, LoraSettings(targets=["q_proj", "v_proj"]))
    assert all("_proj" in name for name in attention.weights)
    assert len(attention.weights) == 2 * 2 * 2


def test_an_encoder_takes_adapters_too(tmp_path: Path) -> None:
    config = LanguageModelConfig(name=str(save_tiny_bert(tmp_path)), kind="bidirectional")
    made = adapter(load_shared_base(config), 1)
    states = output(made, torch.randn(1, 3, 32))
    assert states.shape == (1, 3, 32)
    assert any("intermediate/dense" in name for name in made.weights)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is present")
def test_fewer_bits_need_a_gpu(folder: Path) -> None:
    with pytest.raises(ConfigError, match="needs a CUDA GPU"):
        load_shared_base(LanguageModelConfig(name=str(folder), quantise="4bit"))


def test_fewer_bits_need_bitsandbytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'seqloom\[quantise\]'"):
        load_shared_base(LanguageModelConfig(name=str(folder), quantise="8bit"))
