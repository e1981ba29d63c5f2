"""A run's own interval, against drawing users one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seqloom.evaluation.intervals import score_runs
from seqloom.evaluation.metrics import per_user
from support.evaluated_runs import RunFactory

RANKS = torch.randint(1, 30, (60,), generator=torch.Generator().manual_seed(3))


def test_the_interval_is_that_of_resampled_users(make_run: RunFactory) -> None:
    masks = {"all": torch.ones(60, dtype=torch.bool), "some": torch.arange(60) < 20}
    scores = score_runs(
        [make_run("a", RANKS)], ["hr@10"], masks, seed=0, resamples=20_000, confidence=0.95
    )
    assert [(s.group, s.users) for s in scores] == [("all", 60), ("some", 20)]
    for score in scores:
        values = per_user("hr@10", RANKS[masks[score.group]]).numpy()
        assert score.value == pytest.approx(values.mean())
        random = np.random.default_rng(7)
        means = [values[random.integers(0, len(values), len(values))].mean() for _ in range(20_000)]
        low, high = np.quantile(means, [0.025, 0.975])
        assert score.low == pytest.approx(low, abs=0.02)
        assert score.high == pytest.approx(high, abs=0.02)


def test_small_groups_have_no_interval(make_run: RunFactory) -> None:
    masks = {"none": torch.zeros(60, dtype=torch.bool), "one": torch.arange(60) < 1}
    options = {"seed": 0, "resamples": 2000, "confidence": 0.95}
    none, one = score_runs([make_run("a", RANKS)], ["mrr"], masks, **options)  # type: ignore[arg-type]
    assert (none.users, none.value, none.low) == (0, None, None)
    assert (one.users, one.value is not None, one.low) == (1, True, None)
