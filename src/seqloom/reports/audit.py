"""The report's section on the audit: did what was held out enter anything that training used?"""

from __future__ import annotations

from collections.abc import Sequence

from seqloom.reports.data import AuditResult, AuditRow, SystemResult
from seqloom.reports.markup import Markup, table, tag

_CAPTION = (
    "An audit makes each artefact again from a data set without held-out events and compares. Unknown: it "
    "could not be made again where the audit ran, which proves nothing."
)
_NOT_MADE = "–"


def audit_tables(systems: Sequence[SystemResult]) -> list[Markup]:
    """Outcomes, then the verdict on each artefact, then what the verdicts that are no pass go by."""
    parts = [_outcomes(systems)]
    audited = [(s.name, s.audit) for s in systems if s.audit is not None and s.audit.rows]
    if not audited:
        return parts
    parts.append(_verdicts(audited))
    remarks = _remarks(audited)
    if remarks:
        parts.append(tag("h3", "What did not pass"))
        head = ["Artefact", "Verdict", tag("span", "Found", class_="long")]
        parts.append(table(head, remarks))
    return parts


def _remarks(audited: Sequence[tuple[str, AuditResult]]) -> list[list[object]]:
    """What each verdict that is no pass goes by, said once with the runs that it is said of."""
    runs: dict[tuple[str, str, str], list[str]] = {}
    for name, audit in audited:
        for row in audit.rows:
            if row.verdict != "pass":
                runs.setdefault((row.artefact, row.verdict, row.found), []).append(name)
    rows: list[list[object]] = []
    for (artefact, verdict, found), names in runs.items():
        of = "" if len(names) == len(audited) else f" ({', '.join(names)})"
        told = tag("span", f"{found}{of}", class_="long")
        rows.append([artefact, tag("span", verdict, class_=verdict), told])
    return rows


def _outcomes(systems: Sequence[SystemResult]) -> Markup:
    head = ["Run", "Outcome", "Audited", "Passed", "Failed", "Unknown"]
    return table(head, [_outcome(system) for system in systems], _CAPTION)


def _outcome(system: SystemResult) -> list[object]:
    audit = system.audit
    if audit is None:
        advice = tag("span", "not audited; run seqloom audit", class_="soft")
        return [system.name, advice, *[_NOT_MADE] * 4]
    return [system.name, _word(audit), audit.date, audit.proved, audit.failed, audit.unknown]


def _word(audit: AuditResult) -> Markup:
    if audit.changed:
        told = f"out of date: {', '.join(audit.changed)} changed since"
        return tag("span", told, class_="unknown")
    word = "passed" if audit.passed else "FAILED"
    return tag("span", word, class_="pass" if audit.passed else "fail")


def _verdicts(audited: Sequence[tuple[str, AuditResult]]) -> Markup:
    """A row for each artefact, a column for each run."""
    found = {name: {row.artefact: row for row in audit.rows} for name, audit in audited}
    artefacts = list(dict.fromkeys(row.artefact for _, audit in audited for row in audit.rows))
    rows = [
        [artefact, *(_verdict(found[name].get(artefact)) for name, _ in audited)]
        for artefact in artefacts
    ]
    return table(["Artefact", *found], rows)


def _verdict(row: AuditRow | None) -> object:
    if row is None:
        return _NOT_MADE
    more = f" ({row.checks} checks)" if row.checks > 1 else ""
    return tag("span", f"{row.verdict}{more}", class_=row.verdict)
