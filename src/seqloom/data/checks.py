"""Checks of the input: errors where it cannot be used, counted warnings where it can."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import polars as pl

from seqloom.core.errors import DataError
from seqloom.core.progress import SILENT, Progress
from seqloom.data.options import Missing
from seqloom.data.timestamps import iso

MAX_EXAMPLES = 5
_DAY_S = 86_400
"""Clocks and time zones differ: times up to a day from now do not count as future."""


class Findings:
    """Warnings about the input: shown to the user and kept for the manifest."""

    def __init__(self, progress: Progress = SILENT) -> None:
        self.records: list[dict[str, Any]] = []
        self._progress = progress

    @property
    def progress(self) -> Progress:
        """Where findings are reported."""
        return self._progress

    def add(self, kind: str, count: int, message: str, examples: Iterable[object] = ()) -> None:
        """Records a warning about `count` rows or values; does nothing where `count` is 0."""
        if count == 0:
            return
        shown = [str(example) for _, example in zip(range(MAX_EXAMPLES), examples, strict=False)]
        self.records.append(
            {"kind": kind, "count": int(count), "message": message, "examples": shown}
        )
        tail = f" (such as {', '.join(shown)})" if shown else ""
        self._progress.warn(f"{kind}: {count:,}: {message}{tail}")


def present_rows(
    role: str,
    missing: np.ndarray,
    policy: Missing,
    where: str,
    locate: Callable[[int], str],
    findings: Findings,
) -> np.ndarray | None:
    """Returns [rows] bool, the rows that have a value, or None where all rows have one.

    Raises:
        DataError: a value is missing and the policy is `error`; the message names the first place.
    """
    count = int(missing.sum())
    if count == 0:
        return None
    rows = np.flatnonzero(missing)
    if policy == "error":
        raise DataError(
            f"{where}, {locate(int(rows[0]))}: no {role} ({count:,} row{'s' if count > 1 else ''} without "
            f"one); add the {role}, or drop such rows with missing='drop'"
        )
    places = (locate(int(row)) for row in rows[:MAX_EXAMPLES])
    findings.add(f"missing-{role}", count, f"rows are dropped: they have no {role}", places)
    return ~missing


def check_ids(role: str, labels: pl.Series, findings: Findings) -> None:
    """Warns about ids that begin or end with blanks: they look equal to other ids but differ."""
    odd = labels.filter(labels.str.strip_chars() != labels)
    findings.add(
        f"blanks-around-{role}-id",
        len(odd),
        f"{role} ids begin or end with blanks; the blanks are kept as part of the id",
        (repr(value) for value in odd.head(MAX_EXAMPLES)),
    )


def report_mixed_times(count: int, findings: Findings) -> None:
    """Adds the warning that a time column mixes numbers and dates; `count` is that of the rarer kind."""
    findings.add(
        "mixed-times",
        count,
        "the time column mixes numbers and dates: these values are of the rarer kind; each is read as it is "
        "written",
    )


def report_missing_ratings(count: int, findings: Findings) -> None:
    """Adds the warning that rows without a rating are dropped by a minimum rating."""
    findings.add(
        "missing-rating", count, "rows are dropped: they have no rating, and min_rating is set"
    )


def report_no_times(name: str, findings: Findings) -> None:
    """Adds the warning that the log `name` has no times."""
    findings.add(
        "no-timestamps",
        1,
        f"{name} has no time column: the order of each user's events is the order of the file",
    )


def report_repeats(count: int, findings: Findings) -> None:
    """Adds the warning that events repeat the event before them."""
    findings.add(
        "exact-repeat",
        count,
        "events repeat the event before them in user, item and time; duplicates='consecutive' removes them",
    )


def check_times(
    micros: np.ndarray, spelling: str, mixed: int, findings: Findings, now: float | None = None
) -> None:
    """Warns about implausible times, and about a column that mixes numbers and dates."""
    if len(micros) == 0:
        return
    report_mixed_times(mixed, findings)
    for kind, odd, message in (
        ("time-before-1970", micros < 0, "times are before 1970"),
        (
            "time-before-1973",
            (micros >= 0) & (micros < 10**14) & (spelling not in ("dates", "compact dates")),
            f"numbers, read as {spelling} since 1970, are times before 1973: they may be counters, missing "
            "values written as 0, compact dates such as 20140723 in a column of other times, or times in "
            "another unit (set timestamp_unit)",
        ),
        (
            "time-in-future",
            micros > ((time.time() if now is None else now) + _DAY_S) * 10**6,
            "times are in the future: they may be wrong, or in another unit (set timestamp_unit)",
        ),
    ):
        examples = (iso(int(value) // 10**6) for value in micros[odd][:MAX_EXAMPLES])
        findings.add(kind, int(odd.sum()), message, examples)
