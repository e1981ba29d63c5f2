"""Intervals and p-values against enumeration, hand computation and scipy."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from seqloom.core.errors import ConfigError, DataError
from seqloom.evaluation.significance import (
    benjamini_hochberg,
    bootstrap_means,
    holm,
    paired_test,
    sign_flip_p,
)


def enumerated_p(differences: np.ndarray) -> float:
    signs = itertools.product([1, -1], repeat=len(differences))
    sums = [abs(float(np.dot(sign, differences))) for sign in signs]
    return float(np.mean([total >= abs(differences.sum()) - 1e-9 for total in sums]))


@pytest.mark.parametrize(
    "differences",
    [
        [0.3, 0.1, 0.5, -0.2, 0.7, 0.9, -0.1, 0.4, 0.6, 0.35],  # all distinct
        [1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, 0, 0, 0],  # few distinct values
        [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, -0.5, 0.0],
    ],
)
def test_sign_flips_agree_with_enumeration(differences: list[float]) -> None:
    values = np.array(differences, dtype=np.float64)
    p_value = sign_flip_p(values, 200_000, np.random.default_rng(0))
    expected = enumerated_p(values)
    assert p_value == pytest.approx(expected, abs=5 * np.sqrt(expected * (1 - expected) / 200_000))


def test_sign_flips_with_more_than_one_word_of_bits_follow_the_binomial() -> None:
    values = np.concatenate([np.ones(110), -np.ones(80), np.zeros(500)])
    expected = stats.binomtest(110, 190, 0.5).pvalue
    p_value = sign_flip_p(values, 100_000, np.random.default_rng(0))
    assert p_value == pytest.approx(expected, abs=5 * np.sqrt(expected / 100_000))


def test_p_is_one_without_differences_and_never_zero() -> None:
    random = np.random.default_rng(0)
    assert sign_flip_p(np.zeros(9), 2000, random) == 1.0
    assert sign_flip_p(np.ones(500), 2000, random) == 1 / 2001


@pytest.mark.parametrize("distinct", [True, False])
def test_bootstrap_means_have_the_expected_mean_and_deviation(distinct: bool) -> None:
    random = np.random.default_rng(4)
    values = random.normal(size=400) if distinct else random.integers(-1, 2, 400) / 2.0
    means = bootstrap_means(values, 20_000, np.random.default_rng(1))
    error = values.std() / np.sqrt(len(values))
    assert means.shape == (20_000,)
    assert means.mean() == pytest.approx(values.mean(), abs=5 * error / np.sqrt(20_000))
    assert means.std() == pytest.approx(error, rel=0.03)


def test_interval_agrees_with_scipy() -> None:
    random = np.random.default_rng(2)
    first, second = random.integers(0, 2, (2, 800)).astype(float)
    result = paired_test(torch.from_numpy(first), torch.from_numpy(second), seed=1)
    reference = stats.bootstrap(
        (second - first,),
        np.mean,
        n_resamples=5000,
        method="percentile",
        batch=500,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert result.low == pytest.approx(reference.low, abs=0.004)
    assert result.high == pytest.approx(reference.high, abs=0.004)


def test_paired_test_by_hand() -> None:
    first, second = torch.tensor([0.0, 0.5, 1.0, 0.0]), torch.tensor([1.0, 0.5, 1.0, 0.5])
    result = paired_test(first, second, seed=9)
    assert (result.users, result.first, result.second, result.difference) == (4, 0.375, 0.75, 0.375)
    deviation = np.std([1.0, 0.0, 0.0, 0.5], ddof=1)
    assert result.effect_size == pytest.approx(0.375 / deviation)
    assert result.p_value == pytest.approx(0.5, abs=0.01)  # signs of two values: 2 of 4 are as far
    assert result == paired_test(first, second, seed=9)
    back = paired_test(second, first, seed=9)
    assert back.difference == -result.difference


def test_equal_systems() -> None:
    same = torch.rand(50)
    result = paired_test(same, same)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)
    assert result.effect_size is None


def test_the_test_keeps_its_level() -> None:
    random = np.random.default_rng(7)
    p_values = [
        sign_flip_p(random.integers(-1, 2, 60).astype(float), 2000, random) for _ in range(400)
    ]
    assert np.mean(np.array(p_values) <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_bad_options_are_refused() -> None:
    two = torch.zeros(2)
    with pytest.raises(ConfigError, match="at least 2000"):
        paired_test(two, two, resamples=100)
    with pytest.raises(ConfigError, match="confidence"):
        paired_test(two, two, confidence=95)
    with pytest.raises(DataError, match="same users"):
        paired_test(two, torch.zeros(3))
    with pytest.raises(DataError, match="at least two"):
        paired_test(two[:1], two[:1])


def test_holm_by_hand() -> None:
    # Sorted: .005 x 4 = .02, .01 x 3 = .03, .03 x 2 = .06, .04 x 1 = .04 -> raised to .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_benjamini_hochberg_by_hand() -> None:
    # Sorted: .005 x 4/1 = .02, .01 x 4/2 = .02, .03 x 4/3 = .04, .04 x 4/4 = .04.
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert benjamini_hochberg([]) == []


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_corrections_keep_order_and_never_lower_p(p_values: list[float]) -> None:
    strict, mild = holm(p_values), benjamini_hochberg(p_values)
    for p, by_holm, by_bh in zip(p_values, strict, mild, strict=True):
        assert p <= by_bh + 1e-12
        assert by_bh <= by_holm + 1e-12 <= 1 + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(strict)[order]) >= 0).all()
