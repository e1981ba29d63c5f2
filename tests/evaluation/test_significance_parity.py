"""Statistics against independent packages: scipy, statsmodels (where installed), and polars for groups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats

from seqloom.evaluation.groups import GroupThresholds, group_members, group_metrics
from seqloom.evaluation.metrics import RANK_METRICS, per_user
from seqloom.evaluation.seeds import seed_permutation_test, two_level_bootstrap
from seqloom.evaluation.significance import (
    benjamini_hochberg,
    holm,
    paired_test,
    sign_flip_p,
)

P_VALUES = [0.0001, 0.04, 0.04, 0.012, 0.3, 0.011, 0.9, 0.049, 1.0, 0.0002]
STATSMODELS = {
    "holm": [0.001, 0.24, 0.24, 0.088, 0.9, 0.088, 1.0, 0.24, 1.0, 0.0018],
    "fdr_bh": [0.001, 0.0666667, 0.0666667, 0.03, 0.375, 0.03, 1.0, 0.07, 1.0, 0.001],
}
"""`statsmodels.stats.multitest.multipletests(P_VALUES, method=...)[1]` of statsmodels 0.15.0."""


@pytest.mark.parametrize(("name", "correct"), [("holm", holm), ("fdr_bh", benjamini_hochberg)])
def test_corrections_are_those_of_statsmodels(
    name: str, correct: Callable[[list[float]], list[float]]
) -> None:
    assert correct(P_VALUES) == pytest.approx(STATSMODELS[name], abs=1e-6)
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    random = np.random.default_rng(0)
    for size in (1, 2, 5, 40):
        drawn = np.round(random.random(size) ** 3, 3)  # some are equal
        expected = multitest.multipletests(drawn, method=name)[1]
        assert correct(drawn.tolist()) == pytest.approx(expected.tolist())


@pytest.mark.parametrize("distinct", [True, False])
def test_sign_flips_are_the_exact_permutation_test_of_scipy(distinct: bool) -> None:
    random = np.random.default_rng(1)
    values = random.normal(0.4, 1, 12) if distinct else random.integers(-1, 3, 12).astype(float)
    exact = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    ).pvalue
    found = sign_flip_p(values, 200_000, np.random.default_rng(2))
    assert found == pytest.approx(exact, abs=5 * np.sqrt(exact * (1 - exact) / 200_000))


def test_a_paired_test_of_many_users_agrees_with_scipy() -> None:
    """With many users sign flips approach the t-test, and d_z is t divided by the root of the users."""
    random = np.random.default_rng(3)
    first = random.integers(0, 2, 4000) / 2.0
    second = first + random.choice([-0.5, 0.0, 0.0, 0.5], 4000, p=[0.22, 0.27, 0.26, 0.25])
    found = paired_test(torch.from_numpy(first), torch.from_numpy(second), seed=4)
    expected = stats.ttest_rel(second, first)
    assert found.p_value == pytest.approx(expected.pvalue, rel=0.1)
    assert found.effect_size == pytest.approx(expected.statistic / np.sqrt(4000))
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == (
        pytest.approx(interval.low, abs=1e-3),
        pytest.approx(interval.high, abs=1e-3),
    )


@pytest.mark.parametrize("runs", [(3, 3), (2, 4), (5, 4)])
def test_the_permutation_of_seeds_is_that_of_scipy(runs: tuple[int, int]) -> None:
    random = np.random.default_rng(5)
    before, after = random.normal(0, 1, runs[0]), random.normal(0.8, 1, runs[1])
    exact = stats.permutation_test(
        (after, before),
        lambda x, y: np.mean(x) - np.mean(y),
        permutation_type="independent",
        n_resamples=np.inf,
        alternative="two-sided",
        vectorized=False,
    ).pvalue
    observed, least = seed_permutation_test(before, after)
    # scipy doubles the smaller tail; with unequal sizes the tails differ, so both are counted here.
    gaps = stats.permutation_test(
        (after, before),
        lambda x, y: abs(np.mean(x) - np.mean(y)),
        permutation_type="independent",
        n_resamples=np.inf,
        alternative="greater",
        vectorized=False,
    ).pvalue
    assert observed == pytest.approx(gaps)
    if runs[0] == runs[1]:
        assert observed == pytest.approx(exact)
    assert least <= observed


def test_the_two_level_bootstrap_with_one_seed_is_that_of_scipy() -> None:
    random = np.random.default_rng(6)
    before, after = random.integers(0, 2, (2, 1, 900)).astype(float)
    drawn = two_level_bootstrap(before, after, 20_000, np.random.default_rng(7))
    expected = stats.bootstrap(
        ((after - before)[0],),
        np.mean,
        n_resamples=20_000,
        method="percentile",
        batch=1000,
        rng=np.random.default_rng(8),
    )
    assert drawn.std() == pytest.approx(expected.standard_error, rel=0.03)
    interval = expected.confidence_interval
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx(
        [interval.low, interval.high], abs=0.003
    )


def test_groups_are_those_of_polars() -> None:
    random = np.random.default_rng(9)
    ranks, counts, lengths = (torch.from_numpy(random.integers(1, 60, 500)) for _ in range(3))
    thresholds = GroupThresholds(item=20, user=40)
    found = group_metrics(ranks, group_members(counts, lengths, thresholds))
    table = pl.DataFrame(
        {"count": counts.numpy(), "length": lengths.numpy()}
        | {name: per_user(name, ranks).numpy() for name in RANK_METRICS}
    )
    for kind, column, threshold in (("item", "count", 20), ("user", "length", 40)):
        side = pl.when(pl.col(column) >= threshold).then(pl.lit("head")).otherwise(pl.lit("tail"))
        means = table.group_by(side.alias("side")).agg(
            pl.len().alias("users"), *(pl.col(name).mean() for name in RANK_METRICS)
        )
        for row in means.iter_rows(named=True):
            group = found[f"{row.pop('side')}_{kind}"]
            assert group["users"] == row.pop("users")
            assert group["metrics"] == pytest.approx(row)
