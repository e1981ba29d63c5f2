"""Columns of a log by their names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from seqloom.core.errors import DataError
from seqloom.data import sources  # noqa: F401  (imports `columns` in its turn, so it comes first)
from seqloom.data.columns import ALIASES, LESS_SURE, find_item_id, find_names
from seqloom.data.options import ReadOptions


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
