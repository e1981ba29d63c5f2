"""Each run has one colour and shape; a baseline has the last, and crowds stay quiet."""

from __future__ import annotations

from seqloom.reports.data import ReportData, SystemResult
from seqloom.reports.marks import assign_marks, hit_metric


def systems(report_data: ReportData, count: int) -> list[SystemResult]:
    first = report_data.systems[0]
    return [
        first.model_copy(update={"name": f"run {n}", "metrics": {"ndcg@10": n / 100}})
        for n in range(count)
    ]


def test_slots_follow_the_runs_and_a_baseline_is_last(report_data: ReportData) -> None:
    runs = systems(report_data, 4)
    runs[1] = runs[1].model_copy(update={"yardstick": True})
    comparison = report_data.comparison.model_copy(update={"reference": "run 0"})
    marks = assign_marks(runs, comparison)
    assert list(marks.slots.values()) == [1, 8, 2, 3]
    assert (marks.subject, marks.reference) == ("run 3", "run 0")


def test_of_many_runs_only_those_under_discussion_are_coloured(report_data: ReportData) -> None:
    runs = systems(report_data, 12)
    comparison = report_data.comparison.model_copy(update={"reference": "run 5"})
    marks = assign_marks(runs, comparison)
    assert {name: slot for name, slot in marks.slots.items() if slot} == {
        "run 5": 1,
        "run 11": 2,
        "run 10": 3,
    }


def test_the_hit_rate_has_the_same_cutoff() -> None:
    assert (hit_metric("ndcg@50"), hit_metric("mrr")) == ("hr@50", "hr@10")
