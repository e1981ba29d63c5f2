"""Paired tests of runs by metric and group, corrected as one family."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from seqloom.core.config import Config
from seqloom.core.random import derive_seed
from seqloom.evaluation.evaluated_run import EvaluatedRun
from seqloom.evaluation.metrics import per_user
from seqloom.evaluation.significance import PairedTest, benjamini_hochberg, holm, paired_test


class Difference(Config):
    """Run minus reference, for one metric and one group of users. Undefined values are None."""

    metric: str
    group: str
    """`all`, or one of the groups of the rank table."""
    users: int
    reference: float | None = None
    """The reference's mean; None where the group has fewer than two users."""
    run: float | None = None
    difference: float | None = None
    relative: float | None = None
    """difference / reference (0.1 is 10 %); None where the reference is 0."""
    low: float | None = None
    """Lower bound of the difference's confidence interval (not corrected)."""
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    """Corrected over all differences of the comparison; the sentence uses this value."""
    p_bh: float | None = None
    effect_size: float | None = None
    """Cohen's d_z."""


def paired_differences(
    run_pairs: Sequence[tuple[EvaluatedRun, EvaluatedRun]],
    metrics: Sequence[str],
    masks: Mapping[str, torch.Tensor],
    seed: int,
    options: Mapping[str, Any],
) -> list[list[Difference]]:
    """Tests every pair on each metric and group; all tests are corrected as one family."""
    cells = list(itertools.product(metrics, masks))
    tests = [
        [
            _test_difference(
                before, run, metric, masks[group], derive_seed(seed, metric, group), options
            )
            for metric, group in cells
        ]
        for before, run in run_pairs
    ]
    flat = [test.p_value for row in tests for test in row if test is not None]
    corrected = iter(zip(holm(flat), benjamini_hochberg(flat), strict=True))
    return [
        [
            Difference(metric=metric, group=group, users=int(masks[group].sum()))
            if test is None
            else _difference(metric, group, test, *next(corrected))
            for (metric, group), test in zip(cells, row, strict=True)
        ]
        for row in tests
    ]


def _test_difference(
    reference: EvaluatedRun,
    run: EvaluatedRun,
    metric: str,
    rows: torch.Tensor,
    seed: int,
    options: Mapping[str, Any],
) -> PairedTest | None:
    if int(rows.sum()) < 2:
        return None
    before, after = (per_user(metric, each.table.ranks[rows]) for each in (reference, run))
    return paired_test(before, after, seed=seed, **options)


def _difference(
    metric: str, group: str, test: PairedTest, p_holm: float, p_bh: float
) -> Difference:
    return Difference(
        metric=metric,
        group=group,
        users=test.users,
        reference=test.first,
        run=test.second,
        difference=test.difference,
        relative=test.difference / test.first if test.first else None,
        low=test.low,
        high=test.high,
        p=test.p_value,
        p_holm=p_holm,
        p_bh=p_bh,
        effect_size=test.effect_size,
    )
