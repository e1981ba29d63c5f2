"""Systems over their seeds: means, p-values, and both sources of variance in the interval."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from seqloom.evaluation.compare import Comparison, compare_runs
from seqloom.evaluation.metrics import per_user
from seqloom.evaluation.seeds import (
    Series,
    compare_series,
    seed_permutation_test,
    two_level_bootstrap,
)
from seqloom.evaluation.significance import holm
from support.evaluated_runs import RunFactory, with_record

FAST: dict[str, Any] = {"resamples": 2000, "flips": 2000}


def series(
    name: str, best: int, spread: int, seeds: tuple[int, ...] = (1, 2, 3), users: int = 300
) -> Series:
    """Makes ranks up to 30, less `best`, that differ between seeds by multiples of `spread`."""
    draw = torch.Generator().manual_seed(5)
    common = torch.randint(1, 31, (users,), generator=draw)
    ranks = tuple((common - best + spread * n).clamp(min=1) for n in range(len(seeds)))
    return Series(name, tuple(seeds), ranks)


def test_means_spreads_and_tests_by_hand() -> None:
    old, new = series("old", 0, 1), series("new", 6, 1)
    (result,) = compare_series([(old, new)], ["ndcg@10"], **FAST)
    means = [[float(per_user("ndcg@10", r).mean()) for r in s.ranks] for s in (old, new)]
    assert result.reference_mean == pytest.approx(np.mean(means[0]))
    assert result.run_mean == pytest.approx(np.mean(means[1]))
    assert result.run_std == pytest.approx(np.std(means[1], ddof=1))
    assert result.low < result.difference < result.high
    assert result.p_users < 0.001
    # Three against three: 20 splits, two of them as extreme as a complete separation.
    assert (result.p_seeds, result.least_p_seeds) == (0.1, 0.1)
    assert result.sentence.startswith("Over seeds, new scores ")
    assert "p = .10 over seeds, the smallest possible with this many runs" in result.sentence


def test_the_permutation_equals_a_loop_over_all_splits() -> None:
    before, after = np.array([0.1, 0.3, 0.2]), np.array([0.25, 0.4])
    both, observed = [*before, *after], after.mean() - before.mean()
    splits = list(itertools.combinations(range(5), 2))
    extreme = 0
    for split in splits:
        inside = np.mean([both[i] for i in split])
        outside = np.mean([both[i] for i in range(5) if i not in split])
        extreme += abs(inside - outside) >= abs(observed) - 1e-12
    assert seed_permutation_test(before, after) == (extreme / 10, 1 / 10)


def test_seeds_that_differ_widen_the_interval() -> None:
    widths = []
    for spread in (0, 4):
        pair = (series("a", 0, spread), series("b", 5, spread))
        (result,) = compare_series([pair], ["ndcg@10"], **FAST)
        widths.append(result.high - result.low)
    assert widths[1] > 1.5 * widths[0]


def test_the_two_level_bootstrap_has_the_expected_variance() -> None:
    random = np.random.default_rng(0)
    before = np.zeros((2, 500))
    after = random.integers(0, 3, (3, 500)) + np.array([[0.0], [1.0], [2.0]])
    drawn = two_level_bootstrap(before, after, 20_000, np.random.default_rng(1))
    assert drawn.mean() == pytest.approx(after.mean(), abs=0.02)
    # Drawing 3 of the seeds' means 0, 1, 2 has variance (2 / 3) / 3; users add little.
    assert drawn.var() == pytest.approx(2 / 9, rel=0.1)


def test_a_single_seed_has_no_test_over_seeds() -> None:
    (result,) = compare_series(
        [(series("a", 0, 1, seeds=(1,)), series("b", 5, 1))], ["ndcg@10"], **FAST
    )
    assert result.p_seeds is None
    assert result.reference_std is None
    assert "one system has a single seed" in result.sentence


def test_corrections_cover_all_pairs_and_metrics() -> None:
    pairs = [(series("a", 0, 1), series(name, best, 1)) for name, best in (("b", 1), ("c", 3))]
    results = compare_series(pairs, ["ndcg@10", "hr@10"], **FAST)
    assert [result.p_users_holm for result in results] == holm(
        [result.p_users for result in results]
    )


def test_runs_that_differ_only_in_their_seed_form_a_series(make_run: RunFactory) -> None:
    draw = torch.Generator().manual_seed(2)
    runs = []
    for system, series_of, best in (("sasrec", "s", 0), ("llmesr", "l", 8)):
        for seed in (1, 2):
            ranks = (torch.randint(1, 31, (60,), generator=draw) - best).clamp(min=1)
            run = make_run(f"{system}-{seed}", ranks)
            runs.append(with_record(run, system=system, series=series_of, seed=seed))
    comparison = compare_runs(runs, **FAST)
    assert [(e.reference, e.run, e.metric) for e in comparison.over_seeds] == [
        ("sasrec", "llmesr", "ndcg@10"),
        ("sasrec", "llmesr", "hr@10"),
    ]
    assert comparison.over_seeds[0].run_seeds == [1, 2]
    assert Comparison.build(comparison.model_dump(mode="json")) == comparison
    assert compare_runs(runs[::2], **FAST).over_seeds == []
