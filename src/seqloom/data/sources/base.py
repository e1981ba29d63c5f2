"""The result types of all readers, and the options that they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import polars as pl
import pyarrow as pa
from pydantic import Field

from seqloom.core.config import Config

Format = Literal[
    "auto", "csv", "parquet", "jsonl", "recbole", "movielens", "amazon", "yelp", "sequences"
]
TimestampUnit = Literal["auto", "s", "ms", "us", "ns"]
Column: TypeAlias = pl.Series | pa.ChunkedArray
"""One column of a log. Ids of large files are coded (categorical or Arrow dictionary)."""


class ReadOptions(Config):
    """How to read a log and its items. The defaults read every supported format."""

    format: Format = "auto"
    """Format of the log; `auto` detects it by the name and the first lines, and prints it."""
    user_column: str | None = None
    """Name of the user column if it is not one of the known names."""
    item_column: str | None = None
    """Name of the item column if it is not one of the known names."""
    timestamp_column: str | None = None
    """Name of the time column if it is not one of the known names."""
    rating_column: str | None = None
    """Name of the rating column if it is not one of the known names."""
    timestamp_unit: TimestampUnit = "auto"
    """Unit of numeric times; `auto` decides by their size."""
    time_format: str | None = None
    """Format of dates as for `strptime` (`%d/%m/%Y %H:%M`), for dates whose day and month are ambiguous."""
    items_id_column: str | None = None
    """Name of the id column of the items table if it is not one of the known names."""
    text_columns: list[str] | None = None
    """Text columns of the items to keep, in this order; default: all text columns of the format."""
    separator: str | None = None
    """Field separator of CSV files; default: the likeliest of comma, tab, semicolon and bar."""
    quote: Literal["auto", "none", '"'] = "auto"
    """Quoting of CSV files: `"` quotes fields, or with `none` is an ordinary character; `auto` detects
    which of the two fits and prints it."""
    escape: str | None = Field(default=None, min_length=1, max_length=1)
    """The character that escapes a `"` inside a quoted field, such as a backslash; default: quotes are
    doubled, or escaped by a backslash if only that fits."""
    header: bool = True
    """Whether CSV files begin with a header line; without one the columns are named 1, 2, ..."""
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    """Encoding of text files; a byte order mark takes precedence. MovieLens files are always read as
    latin-1, their encoding."""


@dataclass(frozen=True)
class Names:
    """The columns of a log by role; None where the log has no such column."""

    user: str
    item: str
    timestamp: str | None = None
    rating: str | None = None

    def by_role(self) -> dict[str, str]:
        """Maps `user_id`, `item_id` and where known `timestamp`, `rating` to the log's own names."""
        roles = {"user_id": self.user, "item_id": self.item}
        if self.timestamp is not None:
            roles["timestamp"] = self.timestamp
        if self.rating is not None:
            roles["rating"] = self.rating
        return roles


@dataclass(frozen=True)
class Table:
    """Rows of items or users: an id column, then columns of any type."""

    frame: pl.DataFrame
    id_column: str
    name: str
    """Its name in messages (the file's name, or the frame's type)."""
    files: tuple[Path, ...] = ()
    default_columns: tuple[str, ...] | None = None
    """The text columns to keep where the user names none; None keeps all."""
    findings: list[dict[str, Any]] = field(default_factory=list)
    """As in `Source`."""
    reading: dict[str, Any] | None = None
    """As in `Source`."""


@dataclass(frozen=True)
class Source:
    """A log as it was read: rows in file order, unchecked and complete."""

    format: str
    name: str
    """Its name in messages."""
    columns: dict[str, Column]
    """`user_id`, `item_id` and where known `timestamp`, `rating`, all of one length. Coding removes them
    one by one, so that a large log is not in memory twice."""
    names: Names | None = None
    """The log's own column names; None where the format has no names."""
    files: tuple[Path, ...] = ()
    locate: Callable[[int], str] = lambda row: f"row {row + 1}"
    """Describes the place of row `row` (from 0) in messages."""
    items: Callable[[], Table] | None = None
    """Reads the items table that belongs to the log."""
    users: Callable[[], Table] | None = None
    """Reads the users table that belongs to the log."""
    findings: list[dict[str, Any]] = field(default_factory=list)
    """Warnings of the reader: kind, count, examples, message."""
    reading: dict[str, Any] | None = None
    """How a delimited file was read: separator, quote, escape, encoding, rows; `detected` is the reason
    where quotes are not read by RFC 4180."""
