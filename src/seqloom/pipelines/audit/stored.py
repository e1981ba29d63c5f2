"""Stores the result of an audit in the audited folder, and tells whether it is still valid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seqloom.core.damage import reading
from seqloom.core.errors import LockedError
from seqloom.core.files import read_json, sha256_file, write_json
from seqloom.core.locks import writing
from seqloom.core.progress import Progress
from seqloom.pipelines.audit.report import Audit, Check
from seqloom.reports.data import AuditResult, AuditRow

FILE = "audit.json"
_ABOUT = (
    "manifest.json",
    "weights.safetensors",
    "popularity.safetensors",
    "ranks*.parquet",
    "events.safetensors",
    "text/*/manifest.json",
)
"""The audited files of a run or a data set; they contain the hashes of the others."""

_WORSE = ("pass", "unknown", "fail")


@dataclass(frozen=True)
class StoredAudit:
    """The result of an earlier audit."""

    audit: Audit
    changed: list[str]
    """Files that were added, removed or changed since; the verdict is valid only if there are none."""


def hash_audited_files(path: Path) -> dict[str, str]:
    """Returns the SHA-256 of each audited file, by its path in the folder."""
    files = sorted(file for pattern in _ABOUT for file in path.glob(pattern))
    return {file.relative_to(path).as_posix(): sha256_file(file) for file in files}


def store_audit(report: Audit, path: Path, progress: Progress) -> None:
    """Writes the result into the audited folder; warns if the folder cannot be written."""
    try:
        with writing(path):
            write_json(path / FILE, report.model_dump(mode="json"), sealed=True)
    except (OSError, LockedError) as error:
        progress.warn(f"the result of the audit is not stored in {path}: {error}")


def read_audit(path: Path) -> StoredAudit | None:
    """Reads the result of the last audit of the folder; None if there is none.

    Raises:
        ArtefactError: the file is damaged.
    """
    file = path / FILE
    if not file.exists():
        return None
    raw = read_json(file, "result of an audit")
    with reading(file, "the result of an audit", "run `seqloom audit` again"):
        report = Audit.build(raw)
    present = hash_audited_files(path)
    names = sorted(present.keys() | report.of.keys())
    changed = [name for name in names if present.get(name) != report.of.get(name)]
    return StoredAudit(report, changed)


def summarise_audit(stored: StoredAudit) -> AuditResult:
    """Summarises an audit for a report: one row for each part of the run (its ids, its members)."""
    report = stored.audit
    parts: dict[str, list[Check]] = {}
    for check in report.checks:
        parts.setdefault(check.artefact.partition(": ")[0], []).append(check)
    return AuditResult(
        date=report.audited,
        passed=report.passed,
        proved=len(report.checks) - report.failed - report.unknown,
        failed=report.failed,
        unknown=report.unknown,
        rows=[_row(name, checks) for name, checks in parts.items()],
        changed=stored.changed,
    )


def _row(name: str, checks: list[Check]) -> AuditRow:
    worst = max(checks, key=lambda check: _WORSE.index(check.verdict))
    reason = "" if worst.verdict == "pass" else worst.found
    if reason and worst.artefact != name:
        reason = f"{worst.artefact.removeprefix(f'{name}: ')}: {reason}"
    return AuditRow(artefact=name, verdict=worst.verdict, checks=len(checks), reason=reason)
