"""Conditions on columns: which columns take them, how cells are read."""

from __future__ import annotations

from typing import Any

import pytest

from seqloom.text.filters import Filter, FilterColumns, number_of

COLUMNS = FilterColumns(
    {
        "title": ["Ball pen", "Notes", "Album", "Book"],
        "brand": ["BIC", "Post-it", "K&Co", None],
        "price": ["3.50", "$1,200", "", "20"],
        "release_year": ["1980", "1995", "1999", "2004"],
        "description": ["a very long text of more than six words"] * 4,
    },
    "title",
)


def kept(column: str, comparison: Any, value: str | float) -> list[int]:
    return COLUMNS.mask(Filter(column, comparison, value)).nonzero().flatten().tolist()


def test_long_texts_and_the_title_take_no_conditions() -> None:
    assert (COLUMNS.numeric, COLUMNS.short) == (["price", "release_year"], ["brand"])


@pytest.mark.parametrize(
    ("comparison", "value", "rows"),
    [
        ("below", 20, [0]),
        ("at most", 20, [0, 3]),
        ("above", 20, [1]),
        ("at least", 20, [1, 3]),
        ("is", 1200, [1]),
        ("is not", 20, [0, 1]),
    ],
)
def test_numbers_are_compared_and_empty_cells_meet_nothing(
    comparison: Any, value: Any, rows: Any
) -> None:
    assert kept("price", comparison, float(value)) == rows


def test_values_are_compared_by_whole_words_without_case() -> None:
    assert kept("brand", "is", "bic") == [0]
    assert kept("brand", "is", "bi") == []
    assert kept("brand", "is not", "post-it") == [0, 2, 3]


def test_items_added_later_are_compared_too() -> None:
    later = [{"price": "5"}, {"price": "50"}, {}]
    mask = COLUMNS.mask(Filter("price", "below", 20.0), later)
    assert mask.tolist() == [True, False, False, False, True, False, False]


def test_a_column_is_named_by_its_name_or_its_last_word() -> None:
    assert COLUMNS.named(["release", "year", "x"]) == ("release_year", 2)
    assert COLUMNS.named(["year"]) == ("release_year", 1)
    assert COLUMNS.named(["years"]) is None


def test_a_condition_reads_as_words() -> None:
    assert str(Filter("price", "below", 20.0)) == "price below 20"


def test_numbers_with_signs() -> None:
    assert [number_of(text) for text in ("$1,200.50", "20 €", "x2", "")] == [1200.5, 20, None, None]
