"""The lean pass after a prefix against the library's forward pass over whole prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seqloom.llm.config import LanguageModelConfig, LoraSettings
from seqloom.llm.plugins import prefix_cache
from seqloom.llm.plugins.adapters import Adapter
from seqloom.llm.plugins.prefix_cache import SequenceBatch, is_supported, last_states
from seqloom.llm.plugins.shared_base import SharedBase, load_shared_base
from support.language_models import save_tiny_bert, shared_tiny_llama


@pytest.fixture(scope="module")
def base() -> SharedBase:
    return load_shared_base(LanguageModelConfig(name=str(shared_tiny_llama())))


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4), LoraSettings(targets=["q_proj"])])
def test_last_states_are_those_of_the_whole_prompt(
    base: SharedBase, lora: LoraSettings | None
) -> None:
    torch.manual_seed(0)
    adapter = Adapter(base, lora).eval()
    for weight in adapter.weights.values():
        torch.nn.init.normal_(weight, std=0.3)
    instruction, width = base.embed([2, 3, 4, 5, 6, 7]), base.width
    with torch.no_grad():
        cache = adapter.run(instruction[None], use_cache=True).past_key_values
        prefix = [(layer.keys, layer.values) for layer in cache.layers]
        lengths = [torch.tensor([3, 1, 5]), torch.tensor([2, 2])]
        rows = [torch.randn(3, 5, width), torch.randn(2, 2, width)]
        parts = [SequenceBatch(x.clone(), n) for x, n in zip(rows, lengths, strict=True)]
        with base.activate(adapter.name, training=False) as backbone:
            actual = last_states(backbone, adapter.name, prefix, parts)
        for states, x, counts in zip(actual, rows, lengths, strict=True):
            for state, row, count in zip(states, x, counts.tolist(), strict=True):
                whole = torch.cat([instruction, row[:count]])[None]
                expected = adapter.run(whole, use_cache=False).last_hidden_state[0, -1]
                torch.testing.assert_close(state, expected, rtol=1e-5, atol=1e-5)


def test_other_models_are_left_alone(base: SharedBase, tmp_path: Path) -> None:
    assert is_supported(base.backbone)
    other = LanguageModelConfig(name=str(save_tiny_bert(tmp_path / "bert")), kind="bidirectional")
    assert not is_supported(load_shared_base(other).backbone)


@pytest.mark.parametrize("last", [False, True])
def test_attention_on_a_gpu_is_that_on_a_cpu(last: bool) -> None:
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    batch, heads, groups, length, before, size = 3, 6, 2, 5, 4, 8
    keys, values = random(batch, groups, length, size), random(batch, groups, length, size)
    prefix = random(1, groups, before, size), random(1, groups, before, size)
    if last:
        query = random(batch, heads, 1, size)
        mask = torch.arange(length) <= torch.tensor([0, 4, 2])[:, None, None]
    else:
        query = random(batch, heads, length, size)
        mask = torch.ones(length, length, dtype=torch.bool).tril()[None]
    arguments = (query, keys, values, prefix, mask, 0.3)
    torch.testing.assert_close(
        prefix_cache.attend_on_device(*arguments), prefix_cache._attend(*arguments)
    )
