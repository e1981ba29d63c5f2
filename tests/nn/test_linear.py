"""Products and linear maps by oneDNN, against torch's own in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seqloom.nn import linear
from seqloom.nn.linear import Linear, OneDNNLinear, product, use_onednn


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes that went to oneDNN; the test is skipped where it is not used."""
    if not linear._has_onednn():
        pytest.skip("this torch has no oneDNN product, or this processor no AVX-512")
    seen: list[tuple[int, ...]] = []
    known = linear._onednn

    def watched(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        seen.append(tuple(x.shape))
        return known(x, weight, bias)

    monkeypatch.setattr(linear, "_onednn", watched)
    return seen


@pytest.mark.parametrize("turned", [False, True])
def test_product_equals_float64(turned: bool, calls: list[tuple[int, ...]]) -> None:
    a, b = torch.randn(37, 19), torch.randn(53, 19)
    if turned:
        a, b = a.t().contiguous().t(), b.t().contiguous().t()
    expected = (a.double() @ b.double().t()).float()
    torch.testing.assert_close(product(a, b), expected, rtol=1e-5, atol=1e-5)
    assert calls == [(37, 19)]


@pytest.mark.usefixtures("calls")
def test_a_cut_of_a_wider_matrix_reaches_onednn_without_gaps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wide, tall = torch.randn(19, 80), torch.randn(19, 40)
    expected = (tall[:, 3:8].double().t() @ wide[:, 7:60].double()).float()
    known = linear._onednn
    dense: list[bool] = []

    def watched(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        dense.extend(m.is_contiguous() or m.t().is_contiguous() for m in (x, weight))
        return known(x, weight, bias)

    monkeypatch.setattr(linear, "_onednn", watched)
    actual = product(tall[:, 3:8].t(), wide[:, 7:60].t())
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    rows = torch.randn(80, 64)[:, 10:29]  # rows with gaps
    torch.testing.assert_close(product(rows, wide.t()), rows @ wide, rtol=1e-5, atol=1e-5)
    assert dense == [True] * 4


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 12), (3, 5, 12), (0, 12), (1, 1, 12)])
def test_values_and_gradients_equal_torchs(
    bias: bool, shape: tuple[int, ...], calls: list[tuple[int, ...]]
) -> None:
    fast = Linear(12, 9, bias=bias)
    slow = nn.Linear(12, 9, bias=bias).double()
    slow.load_state_dict(fast.state_dict())
    x = torch.randn(shape, requires_grad=True)
    y = x.detach().double().requires_grad_()
    seed = torch.randn(*shape[:-1], 9)
    actual, expected = fast(x), slow(y)
    actual.backward(seed)
    expected.backward(seed.double())
    close: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(actual, expected.float(), **close)
    torch.testing.assert_close(x.grad, y.grad.float(), **close)
    for mine, theirs in zip(fast.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad.float(), **close)
    assert len(calls) == (3 if x.numel() else 0)


def test_gradients_of_an_expanded_result() -> None:
    """A gradient may come as one value seen many times."""
    layer, x = Linear(6, 4), torch.randn(5, 6, requires_grad=True)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.detach().sum(0).expand(5, 6))


def test_only_what_needs_a_gradient_gets_one() -> None:
    layer = Linear(6, 4)
    layer.weight.requires_grad_(False)
    x = torch.randn(5, 6)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(layer.bias.grad, torch.full((4,), 5.0))


def test_other_number_formats_and_inference_are_torchs_own(calls: list[tuple[int, ...]]) -> None:
    layer, x = Linear(6, 4), torch.randn(5, 6)
    double = copy.deepcopy(layer).double()
    double(x.double()).sum().backward()
    with torch.no_grad():
        layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    product(x.double(), x.double())
    assert calls == []


@pytest.mark.parametrize("rows", [1, 37, 100])
def test_a_large_models_map_equals_torchs_with_and_without_gradients(
    rows: int, calls: list[tuple[int, ...]]
) -> None:
    model = nn.Sequential(nn.Linear(19, 8), nn.ReLU(), nn.Linear(8, 5, bias=False))
    theirs = copy.deepcopy(model).double()
    use_onednn(model)
    x = torch.randn(rows, 2, 19, requires_grad=True)
    y = x.detach().double().requires_grad_()
    with torch.no_grad():
        ranked = model(x)
    assert len(calls) == 2
    expected = theirs(y)
    torch.testing.assert_close(ranked, expected.float(), rtol=1e-5, atol=1e-5)
    model(x).square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad.float(), rtol=1e-4, atol=1e-5)
    for mine, other in zip(model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad.float(), rtol=1e-4, atol=1e-4)


def test_only_plain_maps_of_a_large_model_are_changed() -> None:
    model = nn.ModuleDict({"plain": nn.Linear(3, 3), "own": Linear(3, 3), "norm": nn.LayerNorm(3)})
    use_onednn(model)
    assert [type(module) for module in model.values()] == [OneDNNLinear, Linear, nn.LayerNorm]


def test_texts_of_all_sizes_make_few_kernels(calls: list[tuple[int, ...]]) -> None:
    layer = OneDNNLinear(4, 4)
    wide = torch.randn(1024, 8)
    with torch.no_grad():
        for rows in range(1, 1025):
            assert layer(wide[:rows, :4]).shape == (rows, 4)
    assert len(set(calls)) <= 32 + 5 * 16
    assert max((more - rows) / rows for rows, (more, _) in enumerate(calls, 1)) < 1 / 15
