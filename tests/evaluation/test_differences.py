"""Differences by metric and group, against means computed user by user."""

import dataclasses
from typing import Any

import pytest
import torch

from seqloom.evaluation.compare import compare_runs
from seqloom.evaluation.groups import GroupThresholds
from seqloom.evaluation.metrics import per_user
from support.evaluated_runs import RunFactory

FAST: dict[str, Any] = {"resamples": 2000, "flips": 2000}
WORSE = torch.arange(1, 61)
BETTER = (torch.arange(1, 61) // 3).clamp(min=1)


def test_differences_are_run_minus_reference(make_run: RunFactory) -> None:
    comparison = compare_runs([make_run("old", WORSE), make_run("new", BETTER)], **FAST)
    assert [(p.reference, p.run) for p in comparison.pairs] == [("old", "new")]
    members = make_run("any", WORSE).table.members
    for d in comparison.pairs[0].differences:
        rows = members.get(d.group, torch.ones(60, dtype=torch.bool))
        old, new = (float(per_user(d.metric, r[rows]).mean()) for r in (WORSE, BETTER))
        assert (d.users, d.reference, d.run) == (int(rows.sum()), old, new)
        assert d.difference == pytest.approx(new - old)
        assert d.low is not None
        assert d.high is not None
        assert d.difference is not None
        assert d.low <= d.difference <= d.high
        if old:
            assert d.relative == pytest.approx((new - old) / old)
    assert [(d.metric, d.group) for d in comparison.pairs[0].differences][:6] == [
        ("ndcg@10", "all"),
        ("ndcg@10", "tail_item"),
        ("ndcg@10", "head_item"),
        ("ndcg@10", "tail_user"),
        ("ndcg@10", "head_user"),
        ("hr@10", "all"),
    ]


def test_a_group_without_users_is_listed_but_not_tested(make_run: RunFactory) -> None:
    runs = [make_run("a", WORSE), make_run("b", BETTER)]
    table = dataclasses.replace(runs[0].table, thresholds=GroupThresholds(item=10**6, user=0))
    runs[0] = dataclasses.replace(runs[0], table=table)
    comparison = compare_runs(runs, **FAST)
    by_group = {d.group: d for d in comparison.pairs[0].differences if d.metric == "ndcg@10"}
    assert (by_group["head_item"].users, by_group["head_item"].p) == (0, None)
    assert by_group["tail_item"].users == 60
    assert comparison.comparisons == 6
