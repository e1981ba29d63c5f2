"""Tables of a document for the terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from seqloom.cli.show import document_tables, fields_table, label, rows_table
from seqloom.core import tabular


def text_of(*parts: RenderableType) -> list[list[str]]:
    """The words of each line that has any."""
    console = Console(file=io.StringIO(), width=120)
    for part in parts:
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    return [line.split() for line in lines if line.strip(" ─")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        (-99.99999, "-100.0000"),
        (12345.678, "12,345.7"),
        ({"a": 1, "b": 0.5}, "a 1, b 0.5000"),
        ([1, 2], "1, 2"),
        ([1, 2, 3, 4, 5, 6], "1, 2, 3, 4, 5, ... (6 in total)"),
        ("x[bold]", "x[bold]"),
    ],
)
def test_values(value: object, text: str) -> None:
    assert tabular.text_of(value) == text


def test_nested_entries_are_named_by_their_path() -> None:
    lines = text_of(fields_table({"run": "r", "data": {"sets": {"users": 9}}}))
    assert lines == [["run", "r"], ["data", "sets", "users", "9"]]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("valid.ndcg@10", "validation NDCG@10"),
        ("mrr", "MRR"),
        ("peak_rss_mb", "peak rss, MiB"),
        ("texts_per_s", "texts per second"),
        ("first_start_s", "first start, s"),
        ("best_epoch", "best epoch"),
    ],
)
def test_fields_are_labelled_in_words(name: str, words: str) -> None:
    assert label(name) == words


def test_rows_have_all_keys_as_columns_in_their_order() -> None:
    rows: list[dict[str, Any]] = [{"name": "a", "n": 1}, {"name": "[b]", "more": 2.5}]
    assert text_of(rows_table(rows)) == [
        ["name", "n", "more"],
        ["a", "1", "-"],
        ["[b]", "-", "2.5000"],
    ]


def test_a_document_is_its_entries_then_its_tables() -> None:
    document = {"seconds": 2, "rows": [{"a": 1}], "empty": [], "ids": ["x"]}
    assert text_of(*document_tables(document)) == [
        ["seconds", "2"],
        ["empty"],
        ["ids", "x"],
        ["rows"],
        ["a"],
        ["1"],
    ]
