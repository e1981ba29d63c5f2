"""A run's own interval: the metric it would have with other users of the same kind."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.random import derive_seed
from seqloom.evaluation.evaluated_run import EvaluatedRun
from seqloom.evaluation.metrics import per_user
from seqloom.evaluation.significance import bootstrap_means


class Score(Config):
    """The mean of one metric of one run over a group of users, with its bootstrap interval."""

    run: str
    metric: str
    group: str
    users: int
    value: float | None = None
    """None where the group has no users."""
    low: float | None = None
    """Lower bound; None where the group has fewer than two users."""
    high: float | None = None


def score_runs(
    runs: Sequence[EvaluatedRun],
    metrics: Sequence[str],
    masks: Mapping[str, Tensor],
    *,
    seed: int,
    resamples: int,
    confidence: float,
) -> list[Score]:
    """Computes the percentile interval of each run's mean over users, by metric and group.

    The intervals show how sure each value is. That two of them overlap is no test of the difference, since
    the runs are measured on the same users.

    Source: Efron and Tibshirani 1993, chapter 13.

    Shapes: each mask [R] bool.
    """
    return [
        _score(run, metric, group, masks[group], seed, resamples, (1.0 - confidence) / 2.0)
        for run, metric, group in itertools.product(runs, metrics, masks)
    ]


def _score(
    run: EvaluatedRun,
    metric: str,
    group: str,
    mask: Tensor,
    seed: int,
    resamples: int,
    tail: float,
) -> Score:
    of_users = per_user(metric, run.table.ranks[mask])
    values = of_users.numpy()
    score = Score(run=run.name, metric=metric, group=group, users=len(values))
    if not len(values):
        return score
    score = score.model_copy(update={"value": float(of_users.mean())})
    if len(values) < 2:
        return score
    random = np.random.default_rng(derive_seed(seed, "score", run.name, metric, group))
    low, high = np.quantile(bootstrap_means(values, resamples, random), [tail, 1.0 - tail])
    return score.model_copy(update={"low": float(low), "high": float(high)})
