"""What is odd in a log of many files, said as if it were one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqloom.data.checks import Findings

Records = list[dict[str, Any]]
_OF_ROWS = (
    "missing-user",
    "missing-item",
    "missing-timestamp",
    "mixed-times",
    "time-before-1970",
    "time-before-1973",
    "time-in-future",
)


@dataclass(frozen=True)
class LogFindings:
    """What the steps found."""

    files: list[tuple[str, Records]]
    """Each file with what was found in it."""
    users: list[Records]
    """Of each bucket, what is odd about its users' ids."""
    items: Records
    """What is odd about the items' ids."""
    mixed: Records
    """Times of two kinds over all files."""
    decimals: Records
    """Ids that are read without their decimals."""
    unrated: int
    """Rows without a rating, where a minimum is asked for."""
    untimed: bool
    """Whether the log has no times and its format does not order events by itself."""
    repeats: int
    """Events that repeat the one before."""


def report_findings(told: LogFindings, name: str, findings: Findings) -> None:
    """Pass everything on in the order in which `prepare` says it."""
    files = [
        record | {"examples": [f"{Path(file).name}, {one}" for one in record["examples"]]}
        for file, records in told.files
        for record in records
    ]
    _add([record for record in files if record["kind"] not in _OF_ROWS], findings)
    _add([record for records in told.users for record in records], findings)
    _add(told.items, findings)
    for kind in _OF_ROWS:
        _add([one for one in [*files, *told.mixed] if one["kind"] == kind], findings)
    _add(told.decimals, findings)
    findings.add("missing-rating", told.unrated, "rows without a rating fail min_rating")
    findings.add(
        "no-timestamps",
        int(told.untimed),
        f"{name} has no time column: each user's events are taken in the order of the file",
    )
    findings.add(
        "exact-repeat",
        told.repeats,
        "events repeat the one before in user, item and time; duplicates='consecutive' drops them",
    )


def _add(records: Records, findings: Findings) -> None:
    """Records of one kind become one."""
    for kind in dict.fromkeys(record["kind"] for record in records):
        mine = [record for record in records if record["kind"] == kind]
        examples = [example for record in mine for example in record["examples"]]
        findings.add(kind, sum(record["count"] for record in mine), mine[0]["message"], examples)
