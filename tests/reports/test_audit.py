"""The section on audits: outcomes, verdicts and reasons of several runs."""

from __future__ import annotations

import re
from pathlib import Path

from seqloom.reports.audit import audit_heading, audit_tables
from seqloom.reports.comparison import write_report
from seqloom.reports.data import AuditResult, AuditRow, ReportData, SystemResult


def test_audits_are_shown_side_by_side(report_data: ReportData, tmp_path: Path) -> None:
    rows = [
        AuditRow(artefact="popularity", verdict="pass"),
        AuditRow(artefact="<ids>", verdict="fail", checks=14, reason="2 & more"),
    ]
    audit = AuditResult(date="then", passed=False, proved=14, failed=1, unknown=0, rows=rows)
    first, second = report_data.systems
    page = _page(report_data, tmp_path, [first.model_copy(update={"audit": audit}), second])
    text = re.sub(r"<[^>]+>", "|", page.partition('id="audit"')[2])
    assert "FAILED" in text
    assert "then" in text
    assert "fail (14 checks)" in text
    assert "&lt;ids&gt;" in text
    assert "2 &amp; more" in text
    assert "not audited" in text  # the other run
    outdated = audit.model_copy(update={"passed": True, "changed": ["ranks.parquet"]})
    page = _page(report_data, tmp_path, [first.model_copy(update={"audit": outdated}), second])
    assert "out of date: ranks.parquet changed since" in page


def _page(report_data: ReportData, folder: Path, systems: list[SystemResult]) -> str:
    changed = report_data.model_copy(update={"systems": systems})
    return write_report(folder / "audit.html", changed).read_text(encoding="utf-8")


def _system(name: str, *rows: AuditRow) -> SystemResult:
    failed = sum(row.verdict == "fail" for row in rows)
    audit = AuditResult(
        date="", passed=not failed, proved=0, failed=failed, unknown=0, rows=list(rows)
    )
    return SystemResult(name=name, system=name, metrics={}, audit=audit)


def test_equal_failures_of_several_runs_share_a_row() -> None:
    failed = AuditRow(artefact="ids", verdict="fail", reason="differs")
    passed = AuditRow(artefact="start", verdict="pass")
    tables = audit_tables(
        [_system("a", failed, passed), _system("b", failed), _system("c", passed)]
    )
    assert tables["runs"] == ["a", "b", "c"]
    assert tables["verdicts"] == [
        ("ids", [failed, failed, None]),
        ("start", [passed, None, passed]),
    ]
    (failure,) = tables["failures"]
    assert (failure["reason"], failure["runs"]) == ("differs", ["a", "b"])
    (shared,) = audit_tables([_system("a", failed), _system("b", failed)])["failures"]
    assert shared["runs"] == []


def test_the_heading_says_what_the_audits_prove() -> None:
    passed, failed = _system("a"), _system("b", AuditRow(artefact="ids", verdict="fail"))
    none = passed.model_copy(update={"name": "c", "audit": None})
    assert audit_heading([passed, passed]) == "Audit: all runs passed"
    assert audit_heading([passed, failed]) == "Audit: b failed"
    assert audit_heading([none]) == "Audit: no run has a valid one"
    assert "1 of 2 runs passed" in audit_heading([passed, none])
