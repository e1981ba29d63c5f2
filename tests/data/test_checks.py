"""Warnings about the input, and rows without a value."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from seqloom.core.errors import DataError
from seqloom.core.progress import SilentProgress
from seqloom.data.checks import Findings, check_ids, check_times, present_rows

NOW = 1_700_000_000


class Shown(SilentProgress):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def warn(self, message: str) -> None:
        self.messages.append(message)


def test_a_warning_is_shown_and_kept_with_at_most_five_examples() -> None:
    progress = Shown()
    findings = Findings(progress)
    findings.add("nothing", 0, "is not recorded")
    findings.add("odd", 1234, "rows are odd", range(9))
    assert findings.records == [
        {"kind": "odd", "count": 1234, "message": "rows are odd", "examples": list("01234")}
    ]
    assert progress.messages == ["odd: 1,234: rows are odd (such as 0, 1, 2, 3, 4)"]


def test_rows_without_a_value_are_dropped_or_an_error_with_the_first_place() -> None:
    missing, findings = np.array([False, True, True]), Findings()

    def rows(policy: str, missing: np.ndarray = missing) -> np.ndarray | None:
        line = "line {}".format
        return present_rows("item", missing, policy, "log", line, findings)  # type: ignore[arg-type]

    assert rows("error", np.zeros(3, bool)) is None
    with pytest.raises(DataError, match=r"log, line 1: no item \(2 rows without one\)"):
        rows("error")
    kept = rows("drop")
    assert kept is not None
    assert kept.tolist() == [True, False, False]
    (record,) = findings.records
    assert (record["kind"], record["examples"]) == ("missing-item", ["line 1", "line 2"])


def test_blanks_around_ids_are_reported() -> None:
    findings = Findings()
    check_ids("user", pl.Series(["a", " a", "b\t", "c d"]), findings)
    (record,) = findings.records
    assert (record["kind"], record["count"]) == ("blanks-around-user-id", 2)
    assert record["examples"] == ["' a'", "'b\\t'"]


@pytest.mark.parametrize(
    ("seconds", "spelling", "kind"),
    [
        (-5, "dates", "time-before-1970"),
        (20_140_723, "seconds", "time-before-1973"),
        (NOW + 86_400 + 1, "seconds", "time-in-future"),
        (20_140_723, "dates", None),
        (NOW + 86_400 - 1, "seconds", None),
        (10**8, "seconds", None),
    ],
)
def test_implausible_times(seconds: int, spelling: str, kind: str | None) -> None:
    findings = Findings()
    check_times(np.array([seconds * 10**6, 10**15]), spelling, 0, findings, now=NOW)
    assert [record["kind"] for record in findings.records] == ([kind] if kind else [])
    assert all(record["count"] == 1 for record in findings.records)


def test_a_column_of_numbers_and_dates_is_reported() -> None:
    findings = Findings()
    check_times(np.array([10**15]), "seconds", 3, findings, now=NOW)
    assert [(r["kind"], r["count"]) for r in findings.records] == [("mixed-times", 3)]
    check_times(np.array([], np.int64), "seconds", 3, findings, now=NOW)
    assert len(findings.records) == 1
