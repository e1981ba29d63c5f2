"""The recurrent network by oneDNN, against torch's own in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from seqloom.nn import linear
from seqloom.nn.gru import gru


@pytest.fixture(autouse=True)
def _onednn() -> None:
    if not linear._has_onednn():
        pytest.skip("this torch has no oneDNN product, or this processor no AVX-512")


def network(width: int = 6, inner: int = 10, layers: int = 1, rate: float = 0.0) -> nn.GRU:
    torch.manual_seed(0)
    return nn.GRU(width, inner, layers, batch_first=True, dropout=rate)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("length", [1, 7])
def test_states_and_gradients_are_those_of_torch(layers: int, length: int) -> None:
    ours, x = network(layers=layers), torch.randn(5, length, 6, requires_grad=True)
    theirs, y = copy.deepcopy(ours).double(), x.detach().double().requires_grad_()
    states, expected = gru(ours, x), theirs(y)[0]
    torch.testing.assert_close(states, expected.float())
    above = torch.randn_like(states)
    states.backward(above)
    expected.backward(above.double())
    torch.testing.assert_close(x.grad, y.grad.float(), rtol=1e-4, atol=1e-6)
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(
            mine.grad, other.grad.float(), rtol=1e-4, atol=1e-5, msg=f"{name}: the gradients differ"
        )


def test_training_and_ranking_see_the_same_states() -> None:
    ours, x = network(), torch.randn(5, 7, 6)
    with torch.no_grad():
        ranked = gru(ours, x)
    torch.testing.assert_close(gru(ours, x), ranked)


def test_frozen_weights_get_no_gradient_and_inputs_do() -> None:
    ours, x = network().requires_grad_(False), torch.randn(5, 7, 6, requires_grad=True)
    gru(ours, x).sum().backward()
    assert x.grad is not None
    assert all(weight.grad is None for weight in ours.parameters())


def test_layers_have_dropout_between_them_in_training_alone() -> None:
    ours, x = network(layers=2, rate=0.5), torch.randn(5, 7, 6)
    assert not torch.equal(gru(ours, x), gru(ours, x))
    ours.eval()
    assert torch.equal(gru(ours, x), gru(ours, x))


def test_the_products_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for all inputs, one for each place, and as many backwards but for the first place."""
    shapes: list[tuple[int, ...]] = []
    known = linear._onednn

    def watched(x: torch.Tensor, *rest: torch.Tensor | None) -> torch.Tensor:
        shapes.append(tuple(x.shape))
        return known(x, *rest)

    monkeypatch.setattr(linear, "_onednn", watched)
    gru(network(), torch.randn(5, 7, 6, requires_grad=True)).sum().backward()
    assert shapes[:8] == [(35, 6), *[(5, 10)] * 7]
    assert shapes[8:14] == [(5, 30)] * 6
    assert sorted(shapes[14:]) == [(30, 30), (30, 35), (35, 30)]
