"""Checks what is quick to see before a log is read: paths, and the columns of CSV and Parquet files."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from seqloom.core.errors import DataError
from seqloom.data.columns import find_item_id, find_names
from seqloom.data.options import ReadOptions
from seqloom.data.sources.delimited import likeliest_separator
from seqloom.data.sources.detect import detect_format, detect_items_format
from seqloom.data.sources.files import first_lines, text_encoding

_SAMPLE = 20


def precheck(source: Any, items: Any, options: ReadOptions) -> None:
    """Checks the paths of log and items, and where their headers can be read alone, the columns.

    What it does not see, the readers check.

    Raises:
        DataError: a path does not exist, a format is not known, or a column is missing or ambiguous.
    """
    for given in (source, items):
        if isinstance(given, str | os.PathLike) and not Path(given).exists():
            raise DataError(f"{given} does not exist; check the path")
    log_name = None
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        form = detect_format(path) if options.format == "auto" else options.format
        header = _header(path, form, options)
        if header is not None:
            log_name = find_names(header, options, str(path)).item
    # Without the log's name of the column, an id of its own name would go unnoticed.
    if log_name is not None and isinstance(items, str | os.PathLike):
        path = Path(items)
        header = _header(path, detect_items_format(path), options)
        if header is not None:
            find_item_id(header, options, str(path), log_name)


def _header(path: Path, form: str, options: ReadOptions) -> list[str] | None:
    """Returns the columns of a file, or None where its beginning alone does not show them."""
    if path.is_dir():
        return None
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return list(pq.read_schema(path).names)
        except (OSError, pa.ArrowException):
            return None
    if form != "csv" or not options.header:
        return None
    lines = first_lines(path, _SAMPLE, text_encoding(path, options.encoding))
    if not lines or '"' in lines[0]:
        return None
    separator = options.separator or likeliest_separator(path, lines)
    return next(csv.reader(lines[:1], delimiter=separator)) if len(separator) == 1 else None
