"""Ridge regression against its normal equations, and its penalty against rows left out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seqloom.nn.ridge import _PENALTIES, fit_ridge


def draw(
    rows: int, noise: float, seed: int = 0, inputs: int = 6, outputs: int = 3
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, inputs, generator=generator, dtype=torch.float64)
    true = torch.randn(inputs, outputs, generator=generator, dtype=torch.float64)
    error = torch.randn(rows, outputs, generator=generator, dtype=torch.float64)
    return x, x @ true + 2.0 + noise * error


def plain(x: torch.Tensor, y: Any, penalty: Any) -> tuple[Any, Any]:
    """The normal equations on centred rows."""
    x_mean, y_mean = x.mean(0), y.mean(0)
    a = (x - x_mean).t() @ (x - x_mean) + penalty * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(a, (x - x_mean).t() @ (y - y_mean))
    return weight, y_mean - x_mean @ weight


def test_a_linear_map_is_recovered() -> None:
    x, y = draw(200, 0.0)
    actual = fit_ridge(x, y)
    torch.testing.assert_close(actual(x).double(), y, rtol=1e-3, atol=1e-3)
    assert actual.explained > 0.999


def test_it_is_the_best_of_the_penalties_by_generalised_cross_validation() -> None:
    x, y = draw(30, 2.0, seed=1)
    actual = fit_ridge(x, y)
    centred = x - x.mean(0)
    scale = torch.linalg.svdvals(centred).square().mean()
    scores = []
    for penalty in _PENALTIES * scale:
        weight, bias = plain(x, y, penalty)
        inverse = torch.linalg.inv(centred.t() @ centred + penalty * torch.eye(6))
        freedom = 1 + torch.trace(centred @ inverse @ centred.t())
        scores.append(float((y - x @ weight - bias).square().sum() / (len(x) - freedom) ** 2))
    best = int(torch.tensor(scores).argmin())
    assert 0 < best < len(scores) - 1
    weight, bias = plain(x, y, _PENALTIES[best] * scale)
    torch.testing.assert_close(actual.weight.double(), weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(actual.bias.double(), bias, rtol=1e-4, atol=1e-5)


def test_its_estimate_for_new_rows_holds_for_new_rows() -> None:
    x, y = draw(400, 3.0, seed=2)
    actual = fit_ridge(x[:200], y[:200])
    rest = y[200:] - actual(x[200:]).double()
    share = 1 - rest.square().sum() / (y[200:] - y[:200].mean(0)).square().sum()
    assert actual.explained == pytest.approx(float(share), abs=0.1)


def test_noise_is_not_fitted() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(40, 60, generator=generator) for _ in range(2))
    actual = fit_ridge(x, y)
    assert actual.explained < 0.1
    assert actual.weight.abs().max() < 0.02


def test_one_row_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two rows"):
        fit_ridge(torch.ones(1, 2), torch.ones(1, 2))
