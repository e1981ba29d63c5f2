"""Builds the items and users tables of a prepared data set: ids and text columns as strings."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from seqloom.core.errors import DataError
from seqloom.data.checks import MAX_EXAMPLES, Findings
from seqloom.data.codes import count_decimals, id_strings
from seqloom.data.sources.base import Table
from seqloom.data.sources.jsonl import render


def join_text(
    ids: pl.Series,
    all_ids: pl.Series,
    table: Table,
    columns: Sequence[str] | None,
    findings: Findings,
) -> pl.DataFrame:
    """Joins the kept items `ids` with their text columns; missing text is "".

    `all_ids` are the item ids of the log before filtering: table rows with another id are reported as
    text without an item.

    Raises:
        DataError: a column does not exist, or the table shares no id with the log.
    """
    # If the log treats 103.0 as text, so does the table.
    texts = text_table(table, columns, findings, as_written=count_decimals(all_ids) > 0)
    known = texts["item_id"]
    foreign = known.filter(~known.is_in(all_ids.implode()))
    if len(foreign) == len(known):
        raise DataError(
            f"{table.name}: none of its {len(known):,} ids is in the log: the table has ids such as "
            f"{known.head(3).to_list()}, the log {all_ids.head(3).to_list()}; check how the ids are "
            f"written, or name another id column than {table.id_column!r} with items_id_column"
        )
    findings.add(
        "text-without-item",
        len(foreign),
        f"rows of {table.name} are dropped: their items are not in the log",
        foreign.head(MAX_EXAMPLES),
    )
    joined = pl.DataFrame({"item_id": ids}).join(
        texts, on="item_id", how="left", maintain_order="left"
    )
    joined = joined.with_columns(pl.all().fill_null(""))
    bare = joined.filter(~has_text(joined))["item_id"]
    findings.add(
        "item-without-text",
        len(bare),
        f"items have no text in {table.name}; their text is empty",
        bare.head(MAX_EXAMPLES),
    )
    return joined


def has_text(items: pl.DataFrame) -> pl.Series:
    """Returns [items] bool: whether any text column is not blank."""
    columns = [name for name in items.columns if name != "item_id"]
    if not columns:
        return pl.repeat(False, items.height, eager=True)
    return items.select(pl.any_horizontal(pl.col(columns).str.strip_chars() != "")).to_series()


def text_table(
    table: Table,
    columns: Sequence[str] | None,
    findings: Findings,
    subject: str = "item",
    *,
    as_written: bool = False,
) -> pl.DataFrame:
    """Returns `<subject>_id` and the chosen columns as strings, one row per id.

    Of several rows with one id, the first is kept. With `as_written`, a string 103.0 is never read as
    the integer 103.

    Raises:
        DataError: a column does not exist.
    """
    frame, where = table.frame, table.name
    chosen = _chosen(table, columns)
    ids = id_strings(
        frame[table.id_column], f"{where}, column {table.id_column!r}", as_written=as_written
    ).fill_null("")
    key = f"{subject}_id"
    texts = pl.DataFrame({key: ids, **{name: as_text(frame[name]) for name in chosen}})
    unnamed = texts.filter(pl.col(key) == "").height
    findings.add(
        f"{subject}-row-without-id", unnamed, f"rows of {where} are dropped: they have no id"
    )
    texts = texts.filter(pl.col(key) != "")
    distinct = texts.unique(maintain_order=True)
    findings.add(
        f"duplicate-{subject}-row",
        texts.height - distinct.height,
        f"rows of {where} are dropped: they repeat another row exactly",
        texts.filter(texts.is_duplicated())[key].unique(maintain_order=True),
    )
    first = distinct.unique(key, keep="first", maintain_order=True)
    findings.add(
        f"conflicting-{subject}-row",
        distinct.height - first.height,
        f"rows of {where} are dropped: they describe the same id with other text; the first row of an id "
        "is kept",
        distinct.filter(distinct[key].is_duplicated())[key].unique(maintain_order=True),
    )
    return first


def _chosen(table: Table, columns: Sequence[str] | None) -> list[str]:
    # A text column of one of these names would clash with the id column of the data set.
    reserved = {table.id_column, "item_id", "user_id"}
    names = [name for name in table.frame.columns if name not in reserved]
    if columns is not None:
        for name in columns:
            if name not in names:
                raise DataError(
                    f"{table.name}: no text column {name!r}; columns: {', '.join(names)}"
                )
        return list(dict.fromkeys(columns))
    if table.default_columns is not None:
        names = [name for name in table.default_columns if name in names]
    return sorted(names, key=lambda name: _rank(name.lower()))


def _rank(name: str) -> int:
    """Sorts titles first: a view with one text column shows the first."""
    if name == "title":
        return 0
    return 1 if "title" in name or name in ("name", "item_name", "product_name") else 2


def as_text(column: pl.Series) -> pl.Series:
    """Converts any column to strings: lists joined by commas, whole floats without decimals, null as ""."""
    kind = column.dtype
    if kind.is_float() and (column.drop_nulls().drop_nans() % 1 == 0).all():
        column = column.fill_nan(None).cast(pl.Int64)
    elif kind == pl.List(pl.String):
        column = column.list.join(", ", ignore_nulls=True)
    elif kind.is_nested() or kind in (pl.Object, pl.Binary):
        column = pl.Series(column.name, [render(value) for value in column.to_list()], pl.String)
    return column.cast(pl.String).fill_null("")


def user_table(ids: pl.Series, table: Table | None, findings: Findings) -> pa.Table:
    """Returns `user_id`, and the columns of the log's users file as strings where its format has one.

    Raises:
        DataError: as `text_table`.
    """
    users = pl.DataFrame({"user_id": ids})
    if table is not None:
        texts = text_table(table, None, findings, "user", as_written=count_decimals(ids) > 0)
        users = users.join(texts, on="user_id", how="left", maintain_order="left")
        users = users.with_columns(pl.all().fill_null(""))
    return arrow_strings(users)


def arrow_strings(frame: pl.DataFrame) -> pa.Table:
    """Converts a frame of strings to an Arrow table of plain strings."""
    return pa.table(
        {name: frame[name].to_arrow().cast(pa.large_string()) for name in frame.columns}
    )
