"""What every reader gives back, and the options that readers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl
import pyarrow as pa

Column: TypeAlias = pl.Series | pa.ChunkedArray
"""One column of a log. Ids of large files arrive coded (categorical or Arrow dictionary)."""


@dataclass(frozen=True)
class Names:
    """Which columns of a log carry what. `None` where the log has no such column."""

    user: str
    item: str
    timestamp: str | None = None
    rating: str | None = None

    def by_role(self) -> dict[str, str]:
        """`user_id`, `item_id` and where known `timestamp`, `rating` to the log's own name."""
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
    """What to call it in messages (the file's name, or the frame's type)."""
    files: tuple[Path, ...] = ()
    default_columns: tuple[str, ...] | None = None
    """The text columns to keep where the user names none; `None` keeps all."""
    findings: list[dict[str, Any]] = field(default_factory=list)
    """As those of a `Source`."""
    reading: dict[str, Any] | None = None
    """As that of a `Source`."""


@dataclass(frozen=True)
class Source:
    """A log as it was read, rows in file order, nothing checked and nothing left out."""

    format: str
    name: str
    """What to call it in messages."""
    columns: dict[str, Column]
    """`user_id`, `item_id` and where known `timestamp`, `rating`, all of one length. Taken out
    one by one as they are coded, so that a large log is not held twice."""
    names: Names | None = None
    """The log's own column names; `None` where the format has no names."""
    files: tuple[Path, ...] = ()
    locate: Callable[[int], str] = lambda row: f"row {row + 1}"
    """Say in words where row `row` (from 0) stands."""
    items: Callable[[], Table] | None = None
    """Read the items that came with the log."""
    users: Callable[[], Table] | None = None
    """Read the users that came with the log."""
    findings: list[dict[str, Any]] = field(default_factory=list)
    """Harmless faults seen while reading: kind, count, examples, message."""
    reading: dict[str, Any] | None = None
    """How a delimited file was read: separator, quote, escape, encoding, rows; `detected` says why
    quotes are not read by RFC 4180."""
