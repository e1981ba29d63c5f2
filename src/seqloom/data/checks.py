"""What is wrong with the input: errors where it cannot be read, counted warnings where it can."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import polars as pl

from seqloom.core.errors import DataError
from seqloom.core.progress import SILENT, Progress
from seqloom.data.timestamps import iso

MAX_EXAMPLES = 5
_DAY_S = 86_400
"""Clocks and zones differ: what lies within a day from now is not in the future."""
Missing = Literal["error", "drop"]


class Findings:
    """Harmless faults of the input, each said once to the user and kept for the manifest."""

    def __init__(self, progress: Progress = SILENT) -> None:
        self.records: list[dict[str, Any]] = []
        self._progress = progress

    def add(self, kind: str, count: int, message: str, examples: Iterable[object] = ()) -> None:
        """Record `count` faults of one kind; nothing where there is none."""
        if count == 0:
            return
        shown = [str(example) for _, example in zip(range(MAX_EXAMPLES), examples, strict=False)]
        self.records.append(
            {"kind": kind, "count": int(count), "message": message, "examples": shown}
        )
        tail = f" (for instance {', '.join(shown)})" if shown else ""
        self._progress.warn(f"{kind}: {count:,}: {message}{tail}")


def present_rows(
    role: str,
    missing: np.ndarray,
    policy: Missing,
    where: str,
    locate: Callable[[int], str],
    findings: Findings,
) -> np.ndarray | None:
    """[rows] bool, the rows that have a value, or None where all have one.

    Raises:
        DataError: a value is missing and the policy is `error`; names the first place.
    """
    count = int(missing.sum())
    if count == 0:
        return None
    rows = np.flatnonzero(missing)
    if policy == "error":
        raise DataError(
            f"{where}, {locate(int(rows[0]))}: no {role} ({count:,} row{'s' if count > 1 else ''} "
            f"without one); fill it in, or leave such rows out with missing='drop'"
        )
    places = (locate(int(row)) for row in rows[:MAX_EXAMPLES])
    findings.add(f"missing-{role}", count, f"rows without a {role} are left out", places)
    return ~missing


def check_ids(role: str, labels: pl.Series, findings: Findings) -> None:
    """Warn of ids with blanks around them: they look equal to others and are not."""
    odd = labels.filter(labels.str.strip_chars() != labels)
    findings.add(
        f"blanks-around-{role}-id",
        len(odd),
        "ids with blanks at an end are kept as they are",
        (repr(value) for value in odd.head(MAX_EXAMPLES)),
    )


def report_mixed_times(count: int, findings: Findings) -> None:
    """Record the times of the rarer kind in a column of numbers and dates."""
    findings.add(
        "mixed-times",
        count,
        "times are dates in a column of numbers, or numbers in one of dates; each is read as what it is",
    )


def check_times(
    micros: np.ndarray, spelling: str, mixed: int, findings: Findings, now: float | None = None
) -> None:
    """Warn of times that can hardly be times, and of a column that mixes numbers and dates."""
    if len(micros) == 0:
        return
    report_mixed_times(mixed, findings)
    for kind, odd, message in (
        ("time-before-1970", micros < 0, "times lie before 1970"),
        (
            "time-before-1973",
            (micros >= 0) & (micros < 10**14) & (spelling not in ("dates", "compact dates")),
            f"numbers read as {spelling} since 1970 lie before 1973: they may be counters, gaps filled "
            "with 0, dates such as 20140723 beside others, or of another unit (timestamp_unit)",
        ),
        (
            "time-in-future",
            micros > ((time.time() if now is None else now) + _DAY_S) * 10**6,
            "times lie in the future: they may be of another unit (timestamp_unit) or wrong",
        ),
    ):
        examples = (iso(int(value) // 10**6) for value in micros[odd][:MAX_EXAMPLES])
        findings.add(kind, int(odd.sum()), message, examples)
