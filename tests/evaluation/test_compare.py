"""Comparisons: differences, corrected p-values, JSON, and runs that cannot be compared."""

import dataclasses
import json
from typing import Any

import pyarrow as pa
import pytest
import torch

from seqloom.core.errors import ConfigError, DataError
from seqloom.evaluation.compare import Comparison, compare_runs
from seqloom.evaluation.significance import benjamini_hochberg, holm
from support.evaluated_runs import RunFactory

FAST: dict[str, Any] = {"resamples": 2000, "flips": 2000}
WORSE = torch.arange(1, 61)
BETTER = (torch.arange(1, 61) // 3).clamp(min=1)


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
