"""Tests the difference between two systems: paired over users, without assumptions on the distribution.

A user's metric takes few distinct values (NDCG@10: eleven), and so does the difference. Both resampling
schemes below draw how often each distinct value occurs instead of drawing users: the distribution is the
same, and the cost grows with the distinct values instead of the users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from seqloom.core.errors import ConfigError, DataError
from seqloom.core.random import derive_seed

RESAMPLES = 10_000
FLIPS = 100_000  # a p-value corrected for up to 100 comparisons can still fall below .001
MIN_RESAMPLES = 2_000
_CELLS = 4_000_000  # bounds the numbers in a work array of the resampling
_FEW = 8  # distinct values are few if there are at least this many users for each

Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PairedTest:
    """Second minus first, over the same users."""

    users: int
    first: float
    """Mean of the first system."""
    second: float
    """Mean of the second system."""
    difference: float
    """second - first."""
    low: float
    """Lower bound of the confidence interval of the difference."""
    high: float
    """Upper bound."""
    p_value: float
    """Two-sided, not corrected for the number of comparisons."""
    effect_size: float | None
    """Cohen's d_z: mean / standard deviation of the differences; None if the latter is 0."""


def paired_test(
    first: Tensor,
    second: Tensor,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    flips: int = FLIPS,
    confidence: float = 0.95,
) -> PairedTest:
    """Computes a bootstrap interval and a sign-flip test of the mean difference of paired values.

    Source: Efron and Tibshirani 1993, chapter 13 (percentile interval); Smucker, Allan and
    Carterette 2007 (randomisation test for ranked retrieval); Lakens 2013 (d_z).

    Raises:
        ConfigError: fewer than MIN_RESAMPLES resamples or flips, or a confidence not in (0, 1).
        DataError: unequal lengths, or fewer than two users.

    Shapes: first, second [R] float64.
    """
    for name, count in (("resamples", resamples), ("flips", flips)):
        if count < MIN_RESAMPLES:
            raise ConfigError(f"{count} {name} are too few; use at least {MIN_RESAMPLES}")
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence {confidence} must be between 0 and 1")
    if len(first) != len(second) or len(first) < 2:
        raise DataError(
            f"a paired test needs the same users on both sides, at least two; "
            f"got {len(first)} and {len(second)}"
        )
    differences = (second.double() - first.double()).numpy()
    means = bootstrap_means(differences, resamples, _random(seed, "bootstrap"))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    deviation = float(differences.std(ddof=1))
    mean = float(differences.mean())
    return PairedTest(
        users=len(differences),
        first=float(first.double().mean()),
        second=float(second.double().mean()),
        difference=mean,
        low=float(low),
        high=float(high),
        p_value=sign_flip_p(differences, flips, _random(seed, "sign flips")),
        effect_size=mean / deviation if deviation > 0 else None,
    )


def bootstrap_means(values: Floats, resamples: int, random: np.random.Generator) -> Floats:
    """Draws `resamples` samples from `values` with replacement and returns their means.

    Shapes: values [R] -> [resamples].
    """
    distinct, counts = np.unique(values, return_counts=True)
    n = len(values)
    if len(distinct) * _FEW <= n:
        # How often each distinct value occurs in a sample of n is multinomial.
        shares = counts / n
        return _chunks(
            resamples,
            len(distinct),
            lambda rows: random.multinomial(n, shares, rows) @ distinct / n,
        )
    return _chunks(resamples, n, lambda rows: values[random.integers(0, n, (rows, n))].mean(1))


def sign_flip_p(differences: Floats, flips: int, random: np.random.Generator) -> float:
    """Returns the two-sided p-value of the mean difference under random swaps of the two systems.

    Swapping the systems for a user flips the sign of the user's difference.
    p = (1 + number of flips at least as extreme) / (1 + flips), which is never 0 and keeps the level exact
    (Phipson and Smyth 2010). A difference of 0 stays 0 under flips; if all are 0, p is 1. Rounding does not
    decide ties: two sums are equal if they differ by less than 1e-9 of the sum of absolute differences.

    Shapes: differences [R].
    """
    # Random signs make the sign of a difference irrelevant, so absolute values suffice.
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    if not len(sizes):
        return 1.0
    observed = abs(float(differences.sum()))
    sums = _flipped_sums(sizes, counts, flips, random)
    extreme = int((np.abs(sums) >= observed - 1e-9 * float(sizes @ counts)).sum())
    return (1 + extreme) / (1 + flips)


def holm(p_values: Sequence[float]) -> list[float]:
    """Applies Holm's step-down correction, which controls the family-wise error rate.

    Source: Holm 1979; adjusted p_(i) = max over j <= i of min(1, (m - j + 1) p_(j)).
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    # The smallest p-value is multiplied by m, the next by m - 1, ...
    steps = np.minimum(1.0, p[order] * np.arange(len(p), 0, -1))
    # A larger p-value may not get a smaller adjusted one: running maximum, then back to the input's order.
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(steps)
    return [float(value) for value in adjusted]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Applies the Benjamini-Hochberg correction, which controls the false discovery rate.

    Source: Benjamini and Hochberg 1995; adjusted p_(i) = min over j >= i of min(1, m p_(j) / j).
    """
    from scipy.stats import false_discovery_control

    if not len(p_values):
        return []
    return [float(value) for value in false_discovery_control(p_values, method="bh")]


def _chunks(rows: int, width: int, draw: Callable[[int], Floats]) -> Floats:
    """Calls `draw` for chunks of rows, so that work arrays stay bounded."""
    size = max(1, _CELLS // max(width, 1))
    return np.concatenate([draw(min(size, rows - start)) for start in range(0, rows, size)])


def _flipped_sums(sizes: Floats, counts: _Ints, flips: int, random: np.random.Generator) -> Floats:
    """Draws sums of all values with random signs. Shapes: sizes, counts [D] -> [flips].

    A sum is total - 2 * (the values with a minus). One random bit a user decides the signs; users with equal
    values share 64-bit words, whose set bits are counted together.
    """
    total, n = float(sizes @ counts), int(counts.sum())
    words = -(-counts // 64)
    if int(words.sum()) * 4 > n:  # few values repeat: words would be mostly unused, so unpack bits
        values = np.repeat(sizes, counts)
        width = -(-n // 8)

        def draw_bits(rows: int) -> Floats:
            packed = np.frombuffer(random.bytes(rows * width), np.uint8).reshape(rows, width)
            return total - 2.0 * (np.unpackbits(packed, axis=1, count=n) @ values)

        return _chunks(flips, n, draw_bits)
    owner = np.repeat(np.arange(len(sizes)), words)  # the value that each word belongs to
    # Bits in use: all 64 of a word, but the rest in each value's last word.
    used = np.full(len(owner), 64, dtype=np.uint64)
    used[np.cumsum(words) - 1] = (counts - 64 * (words - 1)).astype(np.uint64)
    masks = np.uint64(2**64 - 1) >> (np.uint64(64) - used)

    def draw_words(rows: int) -> Floats:
        drawn = np.frombuffer(random.bytes(8 * rows * len(masks)), np.uint64)
        minus = np.bitwise_count(drawn.reshape(rows, -1) & masks)  # [rows, words]
        return total - 2.0 * (minus @ sizes[owner])

    return _chunks(flips, len(masks), draw_words)


def _random(seed: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, purpose))
