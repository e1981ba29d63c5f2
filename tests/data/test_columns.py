"""The columns of a log by name."""

from __future__ import annotations

from typing import Any

import pytest

from seqloom.core.errors import DataError
from seqloom.data import sources
from seqloom.data.columns import find_column, find_item_id, find_names
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
        ([], {}, "no user column; columns: none"),
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
