"""Ranking losses against slow float64 versions of their equations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.nn import losses

torch.manual_seed(0)


def example(
    targets: int = 37, items: int = 53, width: int = 8, seed: int = 0, scale: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    hidden = scale * torch.randn(targets, width, generator=draw)
    weight = torch.randn(items, width, generator=draw)
    truth = torch.randint(items, (targets,), generator=draw)
    return hidden.requires_grad_(), weight.requires_grad_(), truth


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(2, 60),
    st.integers(1, 45),
    st.sampled_from([0.1, 1.0, 30.0]),
    st.booleans(),
)
def test_softmax_equals_the_plain_one_in_value_and_gradients(
    targets: Any, items: Any, chunk: Any, scale: Any, shifted: Any
) -> None:
    hidden, weight, truth = example(targets, items, scale=scale)
    offset = torch.linspace(-2, 3, items) if shifted else None
    losses.softmax_loss(hidden, weight, truth, chunk=chunk, offset=offset).backward()
    h, w = (x.detach().double().requires_grad_() for x in (hidden, weight))
    expected = F.cross_entropy(h @ w.t() + (0 if offset is None else offset.double()), truth)
    expected.backward()
    got = losses.softmax_loss(hidden, weight, truth, chunk=chunk, offset=offset)
    assert float(got) == pytest.approx(float(expected), rel=2e-5, abs=1e-6)
    torch.testing.assert_close(hidden.grad.double(), h.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weight.grad.double(), w.grad, rtol=1e-4, atol=1e-5)


def test_softmax_gradient_of_a_large_catalogue_is_added_in_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hidden, weight, truth = example()
    losses.softmax_loss(hidden, weight, truth, chunk=10).backward()
    usual, weight.grad = weight.grad, None
    monkeypatch.setattr(losses, "_MANY_ITEMS", 1)
    monkeypatch.setattr(
        losses, "product", lambda a, b: a @ b.t() if len(a) != weight.shape[1] else None
    )
    losses.softmax_loss(hidden, weight, truth, chunk=10).backward()
    torch.testing.assert_close(weight.grad, usual, rtol=1e-4, atol=1e-6)


def test_products_of_lower_precision_are_added_to_a_large_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a GPU under autocast, where torch adds no product in place to a total of another type."""
    monkeypatch.setattr(losses, "_MANY_ITEMS", 1)
    left, right = torch.randn(3, 4).bfloat16(), torch.randn(4, 5).bfloat16()
    total = torch.ones(3, 5)
    losses._add_product(total, left, right)
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, 1 + (left.float() @ right.float()), rtol=0.02, atol=0.02)


def test_softmax_gradient_is_scaled_by_what_comes_from_above() -> None:
    hidden, weight, truth = example()
    losses.softmax_loss(hidden, weight, truth).backward()
    once = weight.grad.clone()
    weight.grad = None
    (3 * losses.softmax_loss(hidden, weight, truth)).backward()
    torch.testing.assert_close(weight.grad, 3 * once)


def test_softmax_stays_finite_where_the_target_is_hopeless() -> None:
    hidden = torch.tensor([[200.0]])
    weight = torch.tensor([[1.0], [-1.0]])
    loss = losses.softmax_loss(hidden, weight, torch.tensor([1]))
    assert float(loss) == pytest.approx(400.0)


def test_softmax_without_targets_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one target"):
        losses.softmax_loss(torch.zeros(0, 4), torch.zeros(5, 4), torch.zeros(0, dtype=torch.long))


def test_sampled_softmax_follows_its_equation() -> None:
    hidden, weight, truth = example(targets=5)
    negatives = torch.tensor([0, 7, 7, int(truth[2])])
    log_expected = torch.linspace(-3, 0.5, len(weight))
    total = 0.0
    for row, target in zip(hidden.double(), truth.tolist(), strict=True):
        own = float(row @ weight[target].double())
        terms = [math.exp(own)]
        for item in negatives.tolist():
            if item != target:
                logit = float(row @ weight[item].double()) - float(log_expected[item])
                terms.append(math.exp(logit))
        total += math.log(sum(terms)) - own
    got = losses.sampled_softmax_loss(hidden, weight, truth, negatives, log_expected)
    assert float(got) == pytest.approx(total / 5, rel=1e-5)


def test_sampled_softmax_estimates_the_full_one() -> None:
    """With every item drawn about once, the corrected loss comes near the exact loss."""
    hidden, weight, truth = example(targets=64, items=50)
    share = torch.full((50,), 1 / 50)
    count = 20_000
    drawn = torch.randint(50, (count,), generator=torch.Generator().manual_seed(1))
    got = losses.sampled_softmax_loss(hidden, weight, truth, drawn, (share * count).log())
    exact = losses.softmax_loss(hidden, weight, truth)
    # The target counts once by itself and is masked among the draws, so the two sums agree.
    assert float(got) == pytest.approx(float(exact), rel=0.02)


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_binary_loss_follows_its_equation(beta: float) -> None:
    hidden, weight, truth = example(targets=6)
    negatives = (truth[:, None] + torch.tensor([1, 5])) % len(weight)
    start, total = math.log(beta / 2), 0.0
    for row, target, others in zip(hidden.double(), truth, negatives, strict=True):
        total -= beta * math.log(torch.sigmoid(row @ weight[target].double() + start))
        for other in others:
            total -= math.log(1 - torch.sigmoid(row @ weight[other].double() + start))
    got = losses.binary_loss(hidden, weight, truth, negatives, beta=beta)
    assert float(got) == pytest.approx(total / 6, rel=1e-5)


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_where_nothing_is_known_target_and_negatives_pull_alike(beta: float) -> None:
    hidden, weight, truth = example(targets=6)
    negatives = (truth[:, None] + torch.arange(1, 9)) % len(weight)
    weight = torch.zeros_like(weight).requires_grad_()  # all logits are 0
    losses.binary_loss(hidden, weight, truth, negatives, beta=beta).backward()
    pulled, pushed = torch.zeros_like(weight), torch.zeros_like(weight)
    pulled.index_add_(0, truth, -hidden.detach() / 6)
    pushed.index_add_(0, negatives.flatten(), hidden.detach().repeat_interleave(8, 0) / 6)
    rate = beta / (8 + beta)  # the probability at the start
    expected = beta * (1 - rate) * pulled + rate * pushed
    torch.testing.assert_close(weight.grad, expected, rtol=1e-4, atol=1e-6)
    assert 8 * rate == pytest.approx(beta * (1 - rate))


def test_gbce_beta_runs_from_plain_to_fully_calibrated() -> None:
    assert losses.gbce_beta(10, 1001, 0.0) == pytest.approx(1.0)
    assert losses.gbce_beta(10, 1001, 1.0) == pytest.approx(0.01)


def test_padded_targets_count_for_nothing() -> None:
    hidden, weight, truth = example(targets=50)
    padded = truth.clone()
    padded[::3] = -1
    losses.softmax_loss(hidden, weight, padded, chunk=16, padded=True).backward()
    h, w = (x.detach().clone().requires_grad_() for x in (hidden, weight))
    kept = padded >= 0
    value = losses.softmax_loss(h[kept], w, truth[kept])
    value.backward()
    got = losses.softmax_loss(hidden, weight, padded, chunk=16, padded=True)
    torch.testing.assert_close(got, value)
    torch.testing.assert_close(hidden.grad, h.grad)
    torch.testing.assert_close(weight.grad, w.grad)
