"""Columns of a log by their names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from seqloom.core.errors import DataError
from seqloom.data import sources
from seqloom.data.columns import ALIASES, LESS_SURE, find_column, find_item_id, find_names
from seqloom.data.options import ReadOptions

Names = sources.base.Names


@pytest.mark.parametrize(
    ("columns", "options", "names"),
    [
        (["user_id", "item_id"], {}, Names("user_id", "item_id")),
        (["ASIN", "Overall", "reviewerID", "Date"], {}, Names("reviewerID", "ASIN", "Date", "Overall")),
        # The canonical name comes before the others.
        (["uid", "user_id", "item_id", "sku"], {}, Names("user_id", "item_id")),
        (["a", "b", "ts"], {"user_column": "a", "item_column": "b"}, Names("a", "b", "ts")),
    ],
)  # fmt: skip
def test_columns_by_role(columns: list[str], options: dict[str, Any], names: Names) -> None:
    assert find_names(columns, ReadOptions.build(options), "log") == names


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            ["user_id", "x"],
            {},
            "log: no item column; columns: user_id, x; name it with item_column",
        ),
        (["uid", "member_id", "item"], {}, "several columns may be the user: uid, member_id"),
        (["user", "item"], {"user_column": "who"}, r"no column 'who' \(user_column\)"),
        (["user", "item"], {"item_column": "user"}, "'user' is used for two roles"),
        (["user", "item", "item"], {"item_column": "item"}, "has column 'item' more than once"),
        ([], {}, "no user and no item column; columns: none"),
    ],
)
def test_missing_and_ambiguous_columns_are_refused(
    columns: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        find_names(columns, ReadOptions.build(options), "log")


def test_a_column_that_is_not_required_may_be_absent() -> None:
    assert find_column("rating", ["user"], None, "log", required=False) is None


@pytest.mark.parametrize(
    ("columns", "log_name", "options", "expected"),
    [
        (["title", "asin"], None, {}, "asin"),
        (["movie", "asin"], "movie", {}, "movie"),  # the name in the log comes first
        (["id", "title"], None, {}, "id"),
        (["id", "item_id"], None, {}, "item_id"),
        (["id", "key"], "id", {"items_id_column": "key"}, "key"),
    ],
)
def test_the_id_column_of_an_items_table(
    columns: list[str], log_name: str | None, options: dict[str, Any], expected: str
) -> None:
    assert find_item_id(columns, ReadOptions.build(options), "items", log_name) == expected


def test_an_items_table_without_an_id_names_its_own_option() -> None:
    with pytest.raises(DataError, match="name it with items_id_column"):
        find_item_id(["title"], ReadOptions(), "items")
    with pytest.raises(DataError, match=r"no column 'key' \(items_id_column\)"):
        find_item_id(["title"], ReadOptions(items_id_column="key"), "items")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["customer", "product", "purchased_at"], ("customer", "product", "purchased_at")),
        (["Client", "SKU", "Order_Date"], ("Client", "SKU", "Order_Date")),
        (["client_id", "product_id", "event_time"], ("client_id", "product_id", "event_time")),
        # beside an id, the plain word is a name
        (["customer_id", "customer", "product_id", "product"], ("customer_id", "product_id", None)),
        (["user_id", "session_id", "sku", "created_at"], ("user_id", "sku", "created_at")),
    ],
)
def test_names_of_shops_are_known(columns: list[str], expected: tuple[str | None, ...]) -> None:
    names = find_names(columns, ReadOptions(), "log.csv")
    assert (names.user, names.item, names.timestamp) == expected


def test_two_unsure_names_are_a_question() -> None:
    with pytest.raises(DataError, match="several columns may be the user: customer, session_id"):
        find_names(["customer", "session_id", "product"], ReadOptions(), "log.csv")


def test_all_missing_columns_are_told_at_once() -> None:
    with pytest.raises(DataError, match=r"no user and no item column; columns: a, b") as error:
        find_names(["a", "b"], ReadOptions(), "log.csv")
    assert "user_column" in str(error.value)
    assert "item_column" in str(error.value)
    options = ReadOptions(user_column="custmer", item_column="prodct", timestamp_column="when")
    with pytest.raises(DataError) as error:
        find_names(["customer", "product"], options, "log.csv")
    assert str(error.value) == (
        "log.csv: no columns 'custmer' (user_column; did you mean 'customer'?) and 'prodct' "
        "(item_column; did you mean 'product'?) and 'when' (timestamp_column); columns: customer, product"
    )


def test_one_missing_column_is_told_with_a_suggestion() -> None:
    with pytest.raises(DataError, match=r"no column 'custmer' \(user_column\); did you mean 'cust"):
        find_names(["customer", "product"], ReadOptions(user_column="custmer"), "log.csv")
    with pytest.raises(DataError, match="no user column; columns: name, product"):
        find_names(["name", "product"], ReadOptions(), "log.csv")


def test_ids_of_items_tables() -> None:
    assert find_item_id(["product", "title"], ReadOptions(), "items.csv") == "product"
    assert find_item_id(["id", "title"], ReadOptions(), "items.csv") == "id"
    assert find_item_id(["sku", "product", "title"], ReadOptions(), "i.csv", "product") == "product"


def test_the_guide_lists_all_names() -> None:
    guide = Path(__file__).parents[2] / "docs/guides/data.md"
    lines = guide.read_text(encoding="utf-8").splitlines()
    for role, label in (("user", "user"), ("item", "item"), ("timestamp", "time")):
        (row,) = (line for line in lines if line.startswith(f"| {label} | `"))
        names = (*ALIASES[role], *LESS_SURE.get(role, ()))
        assert set(names) <= {name.lower() for name in re.findall("`([^`]+)`", row)}
