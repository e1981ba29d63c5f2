"""Compares two systems, each trained with one or more seeds, over users and over seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.number_format import format_p, format_percent
from seqloom.core.random import derive_seed
from seqloom.evaluation.metrics import metric_label, per_user
from seqloom.evaluation.significance import (
    FLIPS,
    RESAMPLES,
    Floats,
    benjamini_hochberg,
    holm,
    paired_test,
)

_CELLS = 4_000_000  # bounds the resampled counts in memory
_MOST_SPLITS = 100_000  # of the permutation test; where there are more, a sample is drawn


@dataclass(frozen=True)
class Series:
    """Runs of one system that differ only in their seed."""

    name: str
    seeds: tuple[int, ...]
    ranks: tuple[Tensor, ...]
    """[R] int64 for each seed; the same users in the same order."""

    def values(self, metric: str) -> Floats:
        """Computes the metric of each user under each seed. Shapes: -> [S, R]."""
        return torch.stack([per_user(metric, ranks) for ranks in self.ranks]).numpy()


class OverSeeds(Config):
    """One metric over all users: run minus reference, both averaged over their seeds."""

    metric: str
    reference: str
    run: str
    reference_seeds: list[int]
    run_seeds: list[int]
    reference_mean: float
    reference_std: float | None
    """Standard deviation over seeds; None for one seed."""
    run_mean: float
    run_std: float | None
    difference: float
    relative: float | None
    """difference / reference_mean; None if that is 0."""
    low: float
    """Lower bound of the interval from resampling seeds and users together."""
    high: float
    p_users: float
    """Sign-flip test over users, of each user's mean over seeds: does it hold for other users?"""
    p_users_holm: float = 1.0
    """Corrected over all pairs of series and all metrics of the comparison."""
    p_users_bh: float = 1.0
    effect_size: float | None
    """Cohen's d_z over users."""
    p_seeds: float | None
    """Exact permutation test of the runs between the two systems: does it hold for other
    seeds? None if one of them has a single seed."""
    least_p_seeds: float | None
    """The smallest possible `p_seeds` with this number of runs."""
    sentence: str = Field("")


def compare_series(
    pairs: Sequence[tuple[Series, Series]],
    metrics: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    flips: int = FLIPS,
    confidence: float = 0.95,
) -> list[OverSeeds]:
    """Tests each pair (reference, run) on each metric; corrections cover all of them.

    The interval is a two-level bootstrap: seeds are drawn with replacement within each system and,
    independently, users, the same ones for both systems. With few seeds it is somewhat too narrow, since
    drawing from S seeds has (S - 1) / S of their variance.

    Source: Efron and Tibshirani 1993, chapter 8 (bootstrap of more than one level); Fisher 1935 (exact
    permutation); Agarwal et al. 2021 (uncertainty over few training runs).
    """
    results = [
        _compare(first, second, metric, derive_seed(seed, metric), resamples, flips, confidence)
        for first, second in pairs
        for metric in metrics
    ]
    p_values = [result.p_users for result in results]
    corrected = zip(holm(p_values), benjamini_hochberg(p_values), strict=True)
    results = [
        result.model_copy(update={"p_users_holm": by_holm, "p_users_bh": by_bh})
        for result, (by_holm, by_bh) in zip(results, corrected, strict=True)
    ]
    # The sentences need the corrected p-values.
    return [
        result.model_copy(update={"sentence": _sentence(result, 1.0 - confidence)})
        for result in results
    ]


def _compare(
    first: Series,
    second: Series,
    metric: str,
    seed: int,
    resamples: int,
    flips: int,
    confidence: float,
) -> OverSeeds:
    before, after = first.values(metric), second.values(metric)
    users = paired_test(
        torch.from_numpy(before.mean(0)),
        torch.from_numpy(after.mean(0)),
        seed=seed,
        flips=flips,
        confidence=confidence,
    )
    random = np.random.default_rng(derive_seed(seed, "seeds and users"))
    drawn = two_level_bootstrap(before, after, resamples, random)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    p_seeds, least = None, None
    if min(len(before), len(after)) > 1:
        p_seeds, least = seed_permutation_test(before.mean(1), after.mean(1))
    return OverSeeds(
        metric=metric,
        reference=first.name,
        run=second.name,
        reference_seeds=list(first.seeds),
        run_seeds=list(second.seeds),
        reference_mean=users.first,
        reference_std=_spread(before.mean(1)),
        run_mean=users.second,
        run_std=_spread(after.mean(1)),
        difference=users.difference,
        relative=users.difference / users.first if users.first else None,
        low=float(low),
        high=float(high),
        p_users=users.p_value,
        effect_size=users.effect_size,
        p_seeds=p_seeds,
        least_p_seeds=least,
    )


def two_level_bootstrap(
    before: Floats, after: Floats, resamples: int, random: np.random.Generator
) -> Floats:
    """Draws differences of means by resampling seeds and users with replacement.

    As in `significance`, this draws how often each distinct row of values occurs instead of drawing users.

    Shapes: before [S, R], after [S', R] -> [resamples].
    """
    both = np.concatenate([before, after])  # [S + S', R]
    rows, counts = np.unique(both, axis=1, return_counts=True)
    users, shares = int(counts.sum()), counts / counts.sum()
    at_once = max(1, _CELLS // len(counts))
    parts = []
    for start in range(0, resamples, at_once):
        many = min(at_once, resamples - start)
        # One draw of users serves all runs of both systems: users are paired, seeds are not.
        means = random.multinomial(users, shares, many) @ rows.T / users  # [many, S + S']
        old = _draw_seeds(means[:, : len(before)], random)
        parts.append(_draw_seeds(means[:, len(before) :], random) - old)
    return np.concatenate(parts)


def seed_permutation_test(before: Floats, after: Floats) -> tuple[float, float]:
    """Returns the exact two-sided p-value of a permutation of runs between two systems, and its minimum.

    The minimum is the smallest p-value that this number of runs can give. All splits are counted; if there
    are more than 100,000, that many are drawn.

    Shapes: before [S], after [S'].
    """
    both = np.concatenate([before, after])
    size, total = len(after), len(both)
    splits = math.comb(total, size)
    if splits <= _MOST_SPLITS:
        chosen = np.array(list(itertools.combinations(range(total), size)))
    else:
        random = np.random.default_rng(0)
        chosen = random.random((_MOST_SPLITS, total)).argsort(1)[:, :size]
    # For each split, the gap between the mean of the chosen runs and the mean of the rest.
    taken = both[chosen].sum(1)
    gaps = np.abs(taken / size - (both.sum() - taken) / (total - size))
    observed = abs(float(after.mean() - before.mean()))
    extreme = int((gaps >= observed - 1e-12).sum())
    if splits > _MOST_SPLITS:
        return (1 + extreme) / (1 + len(gaps)), 1 / (1 + len(gaps))  # the observed split counts too
    # With equal sizes, each split and its complement have the same gap.
    return extreme / splits, (2 if 2 * size == total else 1) / splits


def _draw_seeds(means: Floats, random: np.random.Generator) -> Floats:
    """Averages over seeds drawn with replacement. Shapes: [many, S] -> [many]."""
    picked = random.integers(0, means.shape[1], means.shape)
    return np.take_along_axis(means, picked, axis=1).mean(1)


def _spread(values: Floats) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _sentence(result: OverSeeds, level: float) -> str:
    """States how far the run is above or below the reference over seeds, and both p-values."""
    where = "above" if result.difference >= 0 else "below"
    amount = "" if result.relative is None else f"{format_percent(abs(result.relative))} "
    not_shown = "" if result.p_users_holm < level else "it is not shown that "
    verb = "scores" if not not_shown else "differs from"
    names = f"{result.run} {verb} "
    place = f"{amount}{where} {result.reference}"
    figures = (
        f"{_mean(result.run_mean, result.run_std)} against "
        f"{_mean(result.reference_mean, result.reference_std)}; {format_p(result.p_users_holm)} over users"
    )
    label = metric_label(result.metric)
    start = (
        f"Over seeds, {not_shown}{names}{result.reference} on {label} ({amount}{where}; {figures}"
        if not_shown
        else f"Over seeds, {names}{place} on {label} ({figures}"
    )
    if result.p_seeds is None or result.least_p_seeds is None:
        return f"{start}; one system has a single seed, so other seeds are not tested)."
    least = (
        ", the smallest possible with this many runs"
        if result.p_seeds <= result.least_p_seeds
        else ""
    )
    return f"{start}, {format_p(result.p_seeds)} over seeds{least})."


def _mean(mean: float, spread: float | None) -> str:
    return f"{mean:.4f}" if spread is None else f"{mean:.4f} ± {spread:.4f}"
