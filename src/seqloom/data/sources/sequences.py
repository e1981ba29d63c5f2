"""Sequence files: `USER ITEM ITEM ...` a line, oldest first; also `USER ITEM` pairs, one a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from seqloom.core.errors import DataError
from seqloom.data.options import ReadOptions
from seqloom.data.sources.base import Source
from seqloom.data.sources.files import text_lines


def read_sequences(path: Path, options: ReadOptions) -> Source:
    """Fields are parted by blanks or tabs. There are no times: the order in the file counts.

    A pairs file is the same thing with one item a line: a user's lines are joined in file order.

    Raises:
        DataError: the file is empty or holds no item.
    """
    numbers: list[int] = []
    texts: list[str] = []
    for number, line in text_lines(path, options.encoding):
        if line.strip():
            numbers.append(number)
            texts.append(line)
    lines = pl.Series("line", texts, dtype=pl.String)
    tokens = lines.str.replace_all(r"\s+", " ").str.strip_chars(" ").str.split(" ")
    counts = tokens.list.len().to_numpy().astype(np.int64) - 1
    users = tokens.list.first()
    if int(counts.sum()) == 0:
        raise DataError(f"{path} holds no line of the form `USER ITEM ITEM ...`")
    row_of_event = np.repeat(np.arange(len(counts)), counts)
    items = tokens.list.slice(1).filter(counts > 0).explode()
    return Source(
        "sequences",
        str(path),
        {"user_id": users.gather(row_of_event).alias("user_id"), "item_id": items.alias("item_id")},
        files=(path,),
        locate=lambda row: f"line {numbers[int(row_of_event[row])]}",
        findings=_findings(users, counts, numbers),
    )


def _findings(users: pl.Series, counts: np.ndarray, numbers: list[int]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    alone = np.flatnonzero(counts == 0)
    if len(alone):
        found.append(
            {
                "kind": "user-without-items",
                "count": len(alone),
                "examples": [f"line {numbers[r]}: {users[int(r)]}" for r in alone[:5]],
                "message": "lines with a user and no item are left out",
            }
        )
    is_pairs = bool((counts <= 1).all())
    repeated = users.filter(users.is_duplicated()).unique(maintain_order=True)
    if not is_pairs and len(repeated):
        found.append(
            {
                "kind": "user-on-several-lines",
                "count": len(repeated),
                "examples": repeated.head(5).to_list(),
                "message": "users on several lines: their lines are joined in file order",
            }
        )
    return found
