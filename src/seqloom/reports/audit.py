"""The tables of a report's section on audits: did training use anything that was held out?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqloom.core.number_format import join_names
from seqloom.reports.data import AuditResult, SystemResult


def audit_tables(systems: Sequence[SystemResult]) -> dict[str, Any]:
    """Returns verdicts and reasons of the runs whose audit lists artefacts.

    - `runs`: their names.
    - `verdicts`: each artefact with the `AuditRow` of each run, None if a run has no such artefact.
    - `failures`: reasons for checks that did not pass, as `_failures` returns them.
    """
    audited = [(s.name, s.audit) for s in systems if s.audit is not None and s.audit.rows]
    by_run = [{row.artefact: row for row in audit.rows} for _, audit in audited]
    artefacts = dict.fromkeys(row.artefact for _, audit in audited for row in audit.rows)
    return {
        "runs": [name for name, _ in audited],
        "verdicts": [(artefact, [rows.get(artefact) for rows in by_run]) for artefact in artefacts],
        "failures": _failures(audited),
    }


def _failures(audited: Sequence[tuple[str, AuditResult]]) -> list[dict[str, Any]]:
    """Returns `artefact`, `verdict` and `reason` of failed and unknown checks, and their `runs`.

    Equal failures of several runs share an entry; `runs` is empty if all runs have it.
    """
    runs: dict[tuple[str, str, str], list[str]] = {}
    for name, audit in audited:
        for row in audit.rows:
            if row.verdict != "pass":
                runs.setdefault((row.artefact, row.verdict, row.reason), []).append(name)
    return [
        {
            "artefact": artefact,
            "verdict": verdict,
            "reason": reason,
            "runs": [] if len(names) == len(audited) else names,
        }
        for (artefact, verdict, reason), names in runs.items()
    ]


def audit_heading(systems: Sequence[SystemResult]) -> str:
    """States what the audits prove."""
    valid = [s for s in systems if s.audit is not None and not s.audit.changed]
    failed = [s.name for s in valid if s.audit is not None and not s.audit.passed]
    if failed:
        return f"Audit: {join_names(failed)} failed"
    if not valid:
        return "Audit: no run has a valid one"
    if len(valid) < len(systems):
        return f"Audit: {len(valid)} of {len(systems)} runs passed, the others have no valid one"
    return "Audit: all runs passed"
