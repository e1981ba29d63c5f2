"""Rows of runs with seen items masked and kept."""

from __future__ import annotations

import pytest

from seqloom.evaluation.both_protocols import protocol_rows
from seqloom.evaluation.record import GroupResult, OtherProtocol, RunRecord


def record(name: str, other: bool) -> RunRecord:
    return RunRecord(
        name=name,
        system="s",
        metrics={"hr@10": 0.25},
        groups={"new_target": GroupResult(users=9, metrics={"hr@10": 0.5})},
        other=OtherProtocol(masked=False, metrics={"hr@10": 0.75}) if other else None,
    )


@pytest.mark.parametrize("masked", [True, False])
def test_a_row_for_each_run_metric_and_group(masked: bool) -> None:
    rows = protocol_rows(
        [record("a", True), record("b", False)],
        masked=masked,
        metrics=["hr@10"],
        groups=["repeat_target", "new_target"],
    )
    sides = [(r.masked, r.unmasked) if masked else (r.unmasked, r.masked) for r in rows]
    assert [(r.run, r.group) for r in rows] == [
        ("a", "all"), ("a", "new_target"), ("b", "all"), ("b", "new_target")
    ]  # fmt: skip
    assert sides == [(0.25, 0.75), (0.5, None), (0.25, None), (0.5, None)]


def test_a_record_of_an_older_version_loads() -> None:
    document = record("a", False).model_dump(mode="json")
    del document["other"]
    assert RunRecord.build(document).other is None
