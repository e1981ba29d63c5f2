"""Tables with one row per run: the best of a column is marked, empty columns are left out."""

from __future__ import annotations

from seqloom.reports.columns import (
    accuracy,
    by_group,
    by_user_and_item,
    mark_best,
    metrics_csv,
    recommended,
)
from seqloom.reports.data import ReportData


def test_the_largest_of_a_column_is_marked() -> None:
    assert [cell.best for cell in mark_best([0.1, None, 0.3, 0.3])] == [False, False, True, True]
    assert [cell.best for cell in mark_best([0.2, None, 0.2])] == [False] * 3


def test_tables_have_a_row_for_each_run(report_data: ReportData) -> None:
    systems = report_data.systems
    table = accuracy(systems)
    for system, (name, cells) in zip(systems, table["rows"], strict=True):
        assert name == system.name
        assert [cell.value for cell in cells] == [system.metrics[m] for m in table["metrics"]]
    groups = by_group(systems, "ndcg@10")
    assert groups is not None
    assert [group["name"] for group in groups["columns"]] == list(systems[0].groups)
    csv = metrics_csv(systems)
    assert len(csv.rows) == sum(1 + len(system.groups) for system in systems)
    assert csv.rows[0][:3] == ["SASRec", "all", 60]
    lists = recommended(systems)
    assert lists is not None
    assert {column["cutoff"] for column in lists["columns"]} == {"10"}
    assert lists["rows"][1] == (systems[1].name, [None] * len(lists["columns"]))


def test_further_cutoffs_are_columns(report_data: ReportData) -> None:
    system = report_data.systems[0]
    wider = system.model_copy(update={"metrics": {**system.metrics, "hr@50": 1.0, "ndcg@3": 0.1}})
    assert accuracy([wider])["metrics"][-3:] == ["mrr", "ndcg@3", "hr@50"]


def test_the_grid_shows_cells_with_users(report_data: ReportData) -> None:
    systems = report_data.systems
    table = by_user_and_item(systems, "ndcg@10")
    assert table is not None
    assert table["columns"] == [cell for cell in systems[0].grid if cell.users]
    assert 0 < len(table["columns"]) < len(systems[0].grid)


def test_there_is_no_table_without_data(report_data: ReportData) -> None:
    bare = report_data.systems[0].model_copy(update={"groups": {}, "grid": [], "metrics": {}})
    assert by_group([bare], "ndcg@10") is None
    assert by_user_and_item([bare], "ndcg@10") is None
    assert recommended([bare]) is None
