"""Parameters in messages, written as options."""

from __future__ import annotations

import pytest

from seqloom.cli.option_names import OptionNames, name_options

OPTIONS = {
    "quote": OptionNames("--quote"),
    "header": OptionNames("--header", "--no-header"),
    "min_count": OptionNames("--min-count"),
    "min_user_count": OptionNames("--min-user-count"),
    "users": OptionNames("--users"),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("set quote='none' to keep them", "set --quote none to keep them"),
        ("quote='\"' if so", "--quote '\"' if so"),
        ("choose `quote='none'`.", "choose --quote none."),
        ("with header=false and", "with --no-header and"),
        ("lower min_count or min_user_count.", "lower --min-count or --min-user-count."),
        ("see `users`; the users", "see --users; the users"),
        ("option users has no meaning", "option --users has no meaning"),
        ("no column 'min_count'", "no column 'min_count'"),
        (
            "/data/min_count/x.csv and filter.min_count",
            "/data/min_count/x.csv and filter.min_count",
        ),
        ("--min-count stays, min_counts too", "--min-count stays, min_counts too"),
    ],
)
def test_parameters_become_options(text: str, expected: str) -> None:
    assert name_options(text, OPTIONS) == expected


def test_without_options_nothing_changes() -> None:
    assert name_options("lower min_count", {}) == "lower min_count"
