"""Readers: one module per format, each returning a `Source` (the log) or a `Table` (the items)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seqloom.core.errors import DataError
from seqloom.data.options import ReadOptions
from seqloom.data.sources.amazon import read_amazon, read_amazon_items
from seqloom.data.sources.base import Source, Table
from seqloom.data.sources.delimited import read_csv, read_csv_items
from seqloom.data.sources.detect import detect_format, detect_items_format
from seqloom.data.sources.frames import read_frame, read_frame_items
from seqloom.data.sources.jsonl import read_json_items, read_json_log
from seqloom.data.sources.movielens import read_movielens, read_movielens_items
from seqloom.data.sources.parquet import read_parquet, read_parquet_items
from seqloom.data.sources.recbole import read_recbole, read_recbole_items
from seqloom.data.sources.sequences import read_sequences
from seqloom.data.sources.yelp import read_yelp, read_yelp_items

__all__ = ["ReadOptions", "Source", "Table", "read_items", "read_log"]

_READERS: dict[str, Callable[[Path, ReadOptions], Source]] = {
    "csv": read_csv,
    "parquet": read_parquet,
    "jsonl": read_json_log,
    "recbole": read_recbole,
    "movielens": read_movielens,
    "amazon": read_amazon,
    "yelp": read_yelp,
    "sequences": read_sequences,
}


def read_log(source: Any, options: ReadOptions) -> Source:
    """Reads a log from a path (file or folder) or a data frame.

    Raises:
        DataError: the path does not exist, the format is not known, or the input is damaged.
    """
    if not isinstance(source, str | os.PathLike):
        return read_frame(source, options)
    path = Path(source)
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path")
    chosen = detect_format(path) if options.format == "auto" else options.format
    if path.is_dir() and chosen in ("csv", "jsonl", "sequences"):
        raise DataError(f"{path} is a folder; give the path of the {chosen} file")
    return _READERS[chosen](path, options)


def read_items(items: Any, options: ReadOptions, log: Source) -> Table:
    """Reads an items table from a path or a data frame; `log` gives the name of the log's item column.

    Raises:
        DataError: as `read_log`.
    """
    log_name = log.names.item if log.names is not None else None
    if not isinstance(items, str | os.PathLike):
        return read_frame_items(items, options, log_name)
    path = Path(items)
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path")
    chosen = detect_items_format(path)
    if chosen == "json":
        if log.format == "amazon":
            return read_amazon_items(path, options, log_name)
        if log.format == "yelp":
            return read_yelp_items(path, options)
        return read_json_items(path, options, log_name)
    if chosen == "movielens":
        return read_movielens_items(path, options)
    tables = {"csv": read_csv_items, "parquet": read_parquet_items, "recbole": read_recbole_items}
    return tables[chosen](path, options, log_name)
