"""Comparisons: differences, corrected p-values, JSON, and runs that cannot be compared."""

import dataclasses
import json
from typing import Any

import pyarrow as pa
import pytest
import torch

from seqloom.core.errors import ConfigError, DataError
from seqloom.evaluation.compare import Comparison, compare_runs
from seqloom.evaluation.groups import GroupThresholds
from seqloom.evaluation.metrics import per_user
from seqloom.evaluation.significance import benjamini_hochberg, holm
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


def test_correction_covers_the_whole_family_and_result_is_json(make_run: RunFactory) -> None:
    runs = [make_run("a", WORSE), make_run("b", BETTER), make_run("c", WORSE.roll(3))]
    comparison = compare_runs(runs, pairs="all", **FAST)
    assert [(p.reference, p.run) for p in comparison.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    every = [d for pair in comparison.pairs for d in pair.differences]
    assert comparison.comparisons == len(every) == 30
    p_values = [d.p for d in every if d.p is not None]
    assert [d.p_holm for d in every] == holm(p_values)
    assert [d.p_bh for d in every] == benjamini_hochberg(p_values)
    text = json.dumps(comparison.model_dump(mode="json"), allow_nan=False)
    assert Comparison.build(json.loads(text)) == comparison
    assert len(compare_runs(runs, **FAST).pairs) == 2


def test_a_group_without_users_is_listed_but_not_tested(make_run: RunFactory) -> None:
    runs = [make_run("a", WORSE), make_run("b", BETTER)]
    table = dataclasses.replace(runs[0].table, thresholds=GroupThresholds(item=10**6, user=0))
    runs[0] = dataclasses.replace(runs[0], table=table)
    comparison = compare_runs(runs, **FAST)
    by_group = {d.group: d for d in comparison.pairs[0].differences if d.metric == "ndcg@10"}
    assert (by_group["head_item"].users, by_group["head_item"].p) == (0, None)
    assert by_group["tail_item"].users == 60
    assert comparison.comparisons == 6


def test_runs_of_other_protocols_or_users_are_refused(make_run: RunFactory) -> None:
    run = make_run("a", WORSE)
    with pytest.raises(DataError, match="masked: True and False"):
        compare_runs([run, make_run("b", WORSE, masked=False)], **FAST)
    with pytest.raises(DataError, match="fingerprint"):
        compare_runs([run, make_run("b", WORSE, fingerprint="other")], **FAST)
    with pytest.raises(DataError, match="kind: 'full' and 'sampled'"):
        compare_runs([run, make_run("b", WORSE, kind="sampled", negatives=100)], **FAST)
    other = make_run("b", WORSE)
    strings = pa.chunked_array([[f"x{n}" for n in range(60)]])
    for column, message in (("user_ids", "other users"), ("targets", "other targets")):
        table = dataclasses.replace(other.table, **{column: strings})
        with pytest.raises(DataError, match=message):
            compare_runs([run, dataclasses.replace(other, table=table)], **FAST)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": []}, "no metric"),
        ({"metrics": ["map@3"]}, "unknown"),
        ({"groups": ["old_user"]}, "unknown group"),
        ({"pairs": "some"}, "pairs"),
    ],
)
def test_bad_options_are_refused(make_run: RunFactory, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compare_runs([make_run("a", WORSE), make_run("b", WORSE)], **{**FAST, **options})


def test_two_runs_with_two_names_are_needed(make_run: RunFactory) -> None:
    with pytest.raises(ConfigError, match="at least two"):
        compare_runs([make_run("a", WORSE)])
    with pytest.raises(ConfigError, match="must differ"):
        compare_runs([make_run("a", WORSE), make_run("a", BETTER)])
