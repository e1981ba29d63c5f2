"""The result types of all readers, and the options that they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl
import pyarrow as pa

Column: TypeAlias = pl.Series | pa.ChunkedArray
"""One column of a log. Ids of large files are coded (categorical or Arrow dictionary)."""


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
