"""Numbers in the form of terminals, reports and sentences."""

from __future__ import annotations

import pytest

from seqloom.core import number_format as form

THIN = "\u202f"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (12345, "12,345"),
        (0.12345, "0.1235"),
        (1234.5, "1,234.5000"),
        (-0.5, "−0.5000"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert form.format_number(value) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.00099, "p < .001"),
        (0.001, "p = .001"),
        (0.0451, "p = .045"),
        (0.0999, "p = .100"),
        (0.634, "p = .63"),
        (0.994, "p = .99"),
        (0.9951, "p = 1"),
        (1.0, "p = 1"),
    ],
)
def test_p_values(p: float, text: str) -> None:
    assert form.format_p(p) == text
    assert form.format_p_cell(p) == text.removeprefix("p ").removeprefix("= ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0.0 s"),
        (1.26, "1.3 s"),
        (84.2, "84 s"),
        (119.6, "2 min"),
        (720, "12 min"),
        (12_240, "3.4 h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert form.format_duration(seconds).replace(THIN, " ") == text


def test_counts_and_percentages() -> None:
    counts = (None, 0, 999, 1340, 190_000, 7_100_000, 999_600, 135_000_000)
    assert [form.format_count(n).replace(THIN, " ") for n in counts] == [
        "–",
        "0",
        "999",
        "1.3 k",
        "190 k",
        "7.1 M",
        "1.0 M",
        "135 M",
    ]
    assert form.format_percent(-0.093, signed=True) == f"−9.3{THIN}%"
    assert form.format_percent(0.5, 0) == f"50{THIN}%"
    assert form.format_interval(-0.0204, 0.001, signed=True) == "−0.020 to +0.001"
    assert form.format_interval(None, 0.1) == "–"


def test_lists_of_names() -> None:
    assert form.join_names(["a"]) == "a"
    assert form.join_names(["a", "b", "c"], "or") == "a, b or c"
