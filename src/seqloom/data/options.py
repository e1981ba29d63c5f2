"""Options for reading and cleaning an interaction log."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seqloom.core.config import Config

Format = Literal[
    "auto", "csv", "parquet", "jsonl", "recbole", "movielens", "amazon", "yelp", "sequences"
]
TimestampUnit = Literal["auto", "s", "ms", "us", "ns"]
Duplicates = Literal["keep-all", "first", "last", "consecutive"]
Missing = Literal["error", "drop"]
Ties = Literal["file", "shuffle", "drop-targets"]
MaskSeen = Literal["auto", "yes", "no"]


class ReadOptions(Config):
    """How to read a log and its items. The defaults detect every supported format."""

    format: Format = "auto"
    """Format of the log; `auto` detects it by the name and the first lines, and reports it."""
    user_column: str | None = None
    """Column with user ids, where it has none of the usual names."""
    item_column: str | None = None
    """Column with item ids, where it has none of the usual names."""
    timestamp_column: str | None = None
    """Column with times, where it has none of the usual names."""
    rating_column: str | None = None
    """Column with ratings, where it has none of the usual names."""
    timestamp_unit: TimestampUnit = "auto"
    """Unit of numeric times; `auto` detects it by their size."""
    time_format: str | None = None
    """Format of dates as for `strptime` (`%d/%m/%Y %H:%M`), where day and month are ambiguous."""
    items_id_column: str | None = None
    """Column of the items table with item ids, where it has none of the usual names."""
    text_columns: list[str] | None = None
    """Text columns of the items to keep, in this order; default: all columns of the format."""
    separator: str | None = None
    """Field separator of CSV files; default: detected (comma, tab, semicolon or bar)."""
    quote: Literal["auto", "none", '"'] = "auto"
    """Quoting of CSV files: `"` quotes fields, with `none` it is an ordinary character; `auto` detects
    which fits and reports it."""
    escape: str | None = Field(default=None, min_length=1, max_length=1)
    """Character before a `"` inside a quoted field, such as a backslash; default: doubled quotes, or
    a backslash where only that fits."""
    header: bool = True
    """Whether CSV files begin with a header line; without one the columns are named 1, 2, ..."""
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    """Encoding of text files; a byte order mark takes precedence. MovieLens files are always read as
    latin-1, their encoding."""


LongHistories = Literal["windows", "last"]
