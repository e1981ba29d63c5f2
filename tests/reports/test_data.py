"""The data of a report: the grid, and records that become results."""

from __future__ import annotations

import pytest

from seqloom.reports.data import ReportData


def test_the_grid_contains_every_user(report_data: ReportData) -> None:
    for system in report_data.systems:
        assert sum(cell.users for cell in system.grid) == 60
        assert [(cell.user, cell.item) for cell in system.grid][:3] == [
            ("tail", "cold"),
            ("tail", "tail"),
            ("tail", "head"),
        ]
        whole = sum(cell.users * cell.metrics["ndcg@10"] for cell in system.grid if cell.metrics)
        assert whole / 60 == pytest.approx(system.metrics["ndcg@10"])


def test_a_result_keeps_the_record_of_its_run(report_data: ReportData) -> None:
    system = report_data.systems[0]
    assert (system.name, system.system, system.device) == ("SASRec", "sasrec", "cpu")
    assert (system.train_seconds, system.total_train_seconds) == (12.5, 12.5)
    assert "coverage@10" in system.metrics
    assert all("coverage@10" not in (b.metrics or {}) for b in system.item_bins)
