"""Reads sequence files: lines `USER ITEM ITEM ...`, oldest item first, or one `USER ITEM` pair per line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from seqloom.core.errors import DataError
from seqloom.data.options import ReadOptions
from seqloom.data.sources.base import Source
from seqloom.data.sources.files import text_lines


def read_sequences(path: Path, options: ReadOptions) -> Source:
    """Reads a sequence file: fields separated by blanks or tabs, in the order of time.

    The lines of one user are joined in file order, so that a file of pairs is read like any other.

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
    findings: list[dict[str, object]] = []
    alone = np.flatnonzero(counts == 0)
    if len(alone):
        findings.append(
            {
                "kind": "user-without-items",
                "count": len(alone),
                "examples": [f"line {numbers[r]}: {users[int(r)]}" for r in alone[:5]],
                "message": "lines are dropped: they have a user and no item",
            }
        )
    is_pairs = bool((counts <= 1).all())
    repeated = users.filter(users.is_duplicated()).unique(maintain_order=True)
    if not is_pairs and len(repeated):
        findings.append(
            {
                "kind": "user-on-several-lines",
                "count": len(repeated),
                "examples": repeated.head(5).to_list(),
                "message": "users have several lines, which are joined in file order",
            }
        )
    return findings
