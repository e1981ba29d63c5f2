"""The result of an audit, kept in the folder that was audited, and whether it still holds."""

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
"""The files of a run or a data set that a verdict is about; they name the hashes of the others."""

_WORSE = ("pass", "unknown", "fail")


@dataclass(frozen=True)
class StoredAudit:
    """What an earlier audit found."""

    audit: Audit
    changed: list[str]
    """Files that are new, gone or other ones since; then the verdict is of something else."""


def hashes(path: Path) -> dict[str, str]:
    """SHA-256 of each file that a verdict is about, by its place in the folder."""
    files = sorted(file for pattern in _ABOUT for file in path.glob(pattern))
    return {file.relative_to(path).as_posix(): sha256_file(file) for file in files}


def keep(found: Audit, path: Path, progress: Progress) -> None:
    """Write the result beside what it is about; a folder that cannot be written to is only mentioned."""
    try:
        with writing(path):
            write_json(path / FILE, found.model_dump(mode="json"), sealed=True)
    except (OSError, LockedError) as error:
        progress.warn(f"the audit's result is not kept in {path}: {error}")


def read_audit(path: Path) -> StoredAudit | None:
    """The result of the last audit of the folder; None where there was none.

    Raises:
        ArtefactError: the file is damaged.
    """
    file = path / FILE
    if not file.exists():
        return None
    raw = read_json(file, "result of an audit")
    with reading(file, "the result of an audit", "run `seqloom audit` again"):
        found = Audit.build(raw)
    now = hashes(path)
    names = sorted(now.keys() | found.of.keys())
    return StoredAudit(found, [name for name in names if now.get(name) != found.of.get(name)])


def summary(stored: StoredAudit) -> AuditResult:
    """For a report: the checks of each part of the run (its ids, its members) as one row."""
    found = stored.audit
    parts: dict[str, list[Check]] = {}
    for check in found.checks:
        parts.setdefault(check.artefact.partition(": ")[0], []).append(check)
    return AuditResult(
        date=found.audited,
        passed=found.passed,
        proved=len(found.checks) - found.failed - found.unknown,
        failed=found.failed,
        unknown=found.unknown,
        rows=[_row(name, checks) for name, checks in parts.items()],
        changed=stored.changed,
    )


def _row(name: str, checks: list[Check]) -> AuditRow:
    worst = max(checks, key=lambda check: _WORSE.index(check.verdict))
    told = "" if worst.verdict == "pass" else worst.found
    if told and worst.artefact != name:
        told = f"{worst.artefact.removeprefix(f'{name}: ')}: {told}"
    return AuditRow(artefact=name, verdict=worst.verdict, checks=len(checks), reason=told)
