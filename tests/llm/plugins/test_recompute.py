"""Gradient checkpointing: the same gradients from less memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seqloom.core.errors import ConfigError
from seqloom.llm.config import LanguageModelConfig, LoraSettings
from seqloom.llm.plugins.adapters import Adapter
from seqloom.llm.plugins.recompute import recompute_layers
from seqloom.llm.plugins.shared_base import SharedBase, load_shared_base
from seqloom.systems.e4srec.reader import HistoryReader
from support.language_models import save_tiny_bert, save_tiny_llama
from support.step_counts import bytes_kept

LORA = LoraSettings(rank=4, alpha=8, dropout=0.3)


@pytest.fixture(scope="module", params=["causal", "respond", "bidirectional"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SharedBase:
    folder: Path = tmp_path_factory.mktemp("model")
    if request.param == "bidirectional":
        config = {"name": str(save_tiny_bert(folder)), "kind": "bidirectional"}
    else:
        config = {"name": str(save_tiny_llama(folder, num_layers=3))}
    made = load_shared_base(LanguageModelConfig.build(config))
    made.respond = request.param != "causal"  # type: ignore[attr-defined]
    return made


class Reading:
    """A step that reads histories; equal readers have equal weights."""

    def __init__(self, base: SharedBase, *, again: bool) -> None:
        torch.manual_seed(0)
        adapter = Adapter(base, LORA, gradient_checkpointing=again)
        with torch.no_grad():
            for value in adapter.weights.values():
                value.normal_(std=0.3)
        respond: bool = base.respond  # type: ignore[attr-defined]
        self.reader = HistoryReader(adapter, 8, "write", respond=respond, dropout=0.2).train()

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        torch.manual_seed(1)
        states: Tensor = self.reader(*batch)
        return states.square().mean()

    def gradients(self, batch: tuple[Tensor, Tensor], between: Any = None) -> dict[str, Tensor]:
        loss = self.loss(batch)
        if between is not None:
            between()
        loss.backward()
        return {name: p.grad for name, p in self.reader.named_parameters() if p.grad is not None}


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    return torch.randn(6, 9, 8, generator=draw), torch.tensor([9, 3, 1, 7, 9, 5])


def test_gradients_are_the_same_and_less_is_kept(
    base: SharedBase, batch: tuple[Tensor, Tensor]
) -> None:
    plain, again = Reading(base, again=False), Reading(base, again=True)
    expected, actual = plain.gradients(batch), again.gradients(batch)
    assert len(expected) > 2
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, rtol=1e-5, atol=1e-7)
    frozen = list(base.backbone.parameters())
    assert bytes_kept(again, batch, frozen) < bytes_kept(plain, batch, frozen) / 2


def test_another_adapter_between_forward_and_backward_changes_nothing(
    base: SharedBase, batch: tuple[Tensor, Tensor]
) -> None:
    plain, again = Reading(base, again=False), Reading(base, again=True)
    other = Reading(base, again=False)

    def read() -> None:
        with torch.no_grad():
            other.reader.eval()(*batch)

    expected = plain.gradients(batch)
    for name, gradient in again.gradients(batch, read).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-7)


def test_without_gradients_nothing_is_wrapped(
    base: SharedBase, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Reading(base, again=True)

    def refuse(*arguments: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("seqloom.llm.plugins.adapters.recompute_layers", refuse)
    with torch.no_grad():
        again.loss(batch)
    again.reader.eval()
    again.loss(batch)


def test_a_model_without_marked_layers_is_refused() -> None:
    with (
        pytest.raises(ConfigError, match="gradient_checkpointing=false"),
        recompute_layers(nn.Linear(2, 2), lambda: pytest.fail("not reached")),
    ):
        pass
