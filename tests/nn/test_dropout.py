"""Dropout from random bytes."""

from __future__ import annotations

import pytest
import torch

from seqloom.nn.dropout import Dropout, dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate_and_mean(rate: float) -> None:
    torch.manual_seed(1)
    x = torch.ones(1000, 401)
    dropped = dropout(x, rate, training=True)
    kept = dropped != 0
    assert float(kept.float().mean()) == pytest.approx(1 - rate, abs=5e-3)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=1e-2)
    assert len(dropped[kept].unique()) == 1


def test_bits_of_a_word_are_independent() -> None:
    torch.manual_seed(2)
    kept = (dropout(torch.ones(8 * 50_000), 0.5, training=True) != 0).view(-1, 8).double()
    correlation = torch.corrcoef(kept.t())
    assert float((correlation - torch.eye(8)).abs().max()) < 0.02


def test_off_in_evaluation_and_at_rate_zero() -> None:
    x = torch.randn(10, 7)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


def test_gradient_passes_where_kept() -> None:
    x = torch.ones(64, requires_grad=True)
    torch.manual_seed(3)
    out = dropout(x, 0.5, training=True)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


def test_same_seed_same_mask() -> None:
    x = torch.ones(99)
    torch.manual_seed(4)
    first = dropout(x, 0.3, training=True)
    torch.manual_seed(4)
    assert torch.equal(first, dropout(x, 0.3, training=True))
