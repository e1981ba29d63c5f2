"""The items table: text columns as strings, joined with the items of the log."""

from __future__ import annotations

import polars as pl
import pytest

from seqloom.core.errors import DataError
from seqloom.data.catalog import as_text, has_text, join_text, text_table, user_table
from seqloom.data.checks import Findings
from seqloom.data.sources.base import Table


def table(**columns: list[object]) -> Table:
    return Table(pl.DataFrame(columns, strict=False), "id", "items.csv")


def kinds(findings: Findings) -> dict[str, int]:
    return {each["kind"]: each["count"] for each in findings.records}


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1.0, None, 20.0], ["1", "", "20"]),
        ([1.5, None, float("nan")], ["1.5", "", "NaN"]),
        ([["a", "b"], [], None], ["a, b", "", ""]),
        ([True, None, False], ["true", "", "false"]),
    ],
)
def test_any_column_becomes_strings(values: list[object], texts: list[str]) -> None:
    assert as_text(pl.Series(values)).to_list() == texts


def test_the_first_row_of_an_id_is_kept_and_the_rest_are_reported() -> None:
    findings = Findings()
    made = text_table(
        table(id=["a", "b", "b", "a", None], brand=["x", "y", "y", "z", "w"], title=["1"] * 5),
        None,
        findings,
    )
    assert made.columns == ["item_id", "title", "brand"]  # titles come first
    assert made.rows() == [("a", "1", "x"), ("b", "1", "y")]
    assert kinds(findings) == {
        "item-row-without-id": 1,
        "duplicate-item-row": 1,
        "conflicting-item-row": 1,
    }


def test_columns_are_chosen_in_the_given_order_and_must_exist() -> None:
    made = text_table(table(id=["a"], x=["1"], y=["2"]), ["y", "x", "y"], Findings())
    assert made.columns == ["item_id", "y", "x"]
    with pytest.raises(DataError, match="no text column 'z'; columns: x"):
        text_table(table(id=["a"], x=["1"]), ["z"], Findings())


def test_items_of_the_log_get_their_text_in_their_order() -> None:
    findings = Findings()
    ids = pl.Series(["c", "a", "b"])
    made = join_text(ids, ids, table(id=["a", "b", "x"], title=["A", " ", "X"]), None, findings)
    assert made.rows() == [("c", ""), ("a", "A"), ("b", " ")]
    assert has_text(made).to_list() == [False, True, False]
    assert kinds(findings) == {"text-without-item": 1, "item-without-text": 2}


def test_a_table_of_another_catalogue_is_refused() -> None:
    ids = pl.Series(["1", "2"])
    with pytest.raises(DataError, match=r"none of its 1 ids is in the log.*'p7'.*'1', '2'"):
        join_text(ids, ids, table(id=["p7"], title=["t"]), None, Findings())


@pytest.mark.parametrize(("log_ids", "kept"), [(["103"], "103"), (["103.0", "1.5"], "103.0")])
def test_a_table_is_read_as_the_log_writes_its_numbers(log_ids: list[str], kept: str) -> None:
    ids = pl.Series(log_ids[:1])
    made = join_text(ids, pl.Series(log_ids), table(id=["103.0"], title=["t"]), None, Findings())
    assert made.rows() == [(kept, "t")]


def test_users_without_a_file_have_their_ids_alone() -> None:
    assert user_table(pl.Series(["a", "b"]), None, Findings()).to_pydict() == {
        "user_id": ["a", "b"]
    }
    users = user_table(pl.Series(["b", "c"]), table(id=["a", "b"], age=[30, 40]), Findings())
    assert users.to_pydict() == {"user_id": ["b", "c"], "age": ["40", ""]}
