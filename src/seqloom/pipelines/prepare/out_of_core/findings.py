"""Merges the warnings about the files of a log, so that they read like those about one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqloom.data.checks import (
    Findings,
    report_missing_ratings,
    report_no_times,
    report_repeats,
)

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
    """The warnings of all steps of a job."""

    files: list[tuple[str, Records]]
    """Each file with the warnings about it."""
    users: list[Records]
    """For each bucket, the warnings about the ids of its users."""
    items: Records
    """The warnings about the ids of items."""
    mixed: Records
    """The warning about times of two kinds, over all files."""
    decimals: Records
    """The warnings about ids that are read without their decimals."""
    unrated: int
    """Rows without a rating, where a minimum is set."""
    untimed: bool
    """Whether the log has no times and its format does not define an order."""
    repeats: int
    """Events that repeat the event before them."""


def report_findings(log: LogFindings, name: str, findings: Findings) -> None:
    """Adds all warnings to `findings` in the order of `prepare`."""
    files = [
        record | {"examples": [f"{Path(file).name}, {one}" for one in record["examples"]]}
        for file, records in log.files
        for record in records
    ]
    _add([record for record in files if record["kind"] not in _OF_ROWS], findings)
    _add([record for records in log.users for record in records], findings)
    _add(log.items, findings)
    for kind in _OF_ROWS:
        _add([one for one in [*files, *log.mixed] if one["kind"] == kind], findings)
    _add(log.decimals, findings)
    report_missing_ratings(log.unrated, findings)
    if log.untimed:
        report_no_times(name, findings)
    report_repeats(log.repeats, findings)


def _add(records: Records, findings: Findings) -> None:
    """Adds records of one kind as one record."""
    for kind in dict.fromkeys(record["kind"] for record in records):
        mine = [record for record in records if record["kind"] == kind]
        examples = [example for record in mine for example in record["examples"]]
        findings.add(kind, sum(record["count"] for record in mine), mine[0]["message"], examples)
