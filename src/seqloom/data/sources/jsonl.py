"""Reads JSON lines: logs with the parser of polars, items tables with that of Python (their fields vary)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from seqloom.core.errors import DataError
from seqloom.core.text_files import is_plain
from seqloom.data.columns import find_item_id, find_names
from seqloom.data.options import ReadOptions
from seqloom.data.sources.base import Names, Source, Table
from seqloom.data.sources.files import (
    explain_json,
    first_lines,
    first_objects,
    is_python_literal,
    objects,
    open_bytes,
    raw_lines,
)
from seqloom.data.sources.parquet import coded

_PEEK = 1000


def json_keys(path: Path) -> list[str]:
    """Returns the keys of the first objects, in the order of appearance.

    Raises:
        DataError: the file is empty or its first lines are not JSON objects.
    """
    objects = first_objects(path, _PEEK)
    if not objects:
        explain_json(path, ValueError("no JSON object"))
    return list(dict.fromkeys(key for value in objects for key in value))


def read_json_log(
    path: Path, options: ReadOptions, names: Names | None = None, format: str = "jsonl"
) -> Source:
    """Reads a log with one object per line (`.gz` too), JSON or Python literals.

    `names` are the columns of a format that fixes them.

    Raises:
        DataError: a line is not a JSON object, a column is missing or ambiguous, or the file is empty.
    """
    if names is None:
        names = find_names(json_keys(path), options, str(path))
    roles = names.by_role()
    _refuse_nested(path, roles)
    if is_python_literal(first_lines(path, 1, "utf-8")[0]):
        frame = _literal_frame(path, roles)
    else:
        frame = _json_frame(path, roles)
    columns = {role: frame[role] for role in roles}
    return Source(format, str(path), columns, names, (path,), lambda row: _nonblank_line(path, row))


def _json_frame(path: Path, roles: Mapping[str, str]) -> pl.DataFrame:
    schema = pl.Schema({own: pl.String() for own in roles.values()})
    chosen = [
        (coded(own, pl.String()) if role in ("user_id", "item_id") else pl.col(own)).alias(role)
        for role, own in roles.items()
    ]
    try:
        scan = pl.scan_ndjson(_for_polars(path), schema=schema)
        return scan.select(chosen).collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        explain_json(path, error)


def _literal_frame(path: Path, roles: Mapping[str, str]) -> pl.DataFrame:
    """Reads the columns of a file of Python literals, one line at a time."""
    columns: dict[str, list[str | None]] = {role: [] for role in roles}
    for number, record in objects(path):
        for role, own in roles.items():
            value = record.get(own)
            if isinstance(value, dict | list | tuple | set | bytes):
                raise DataError(
                    f"{path}, line {number}: field {own!r} ({role}) holds a {type(value).__name__}, "
                    "but a string or a number is needed"
                )
            columns[role].append(render(value))
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def _refuse_nested(path: Path, roles: Mapping[str, str]) -> None:
    for record in first_objects(path, _PEEK):
        for role, own in roles.items():
            if isinstance(record.get(own), dict | list):
                raise DataError(
                    f"{path}: field {own!r} ({role}) holds a JSON {type(record[own]).__name__}, but a "
                    "string or a number is needed"
                )


def _for_polars(path: Path) -> Path | io.BytesIO:
    """Returns the path, or the content of a file that polars cannot read directly (marks, CR line ends)."""
    if is_plain(path):
        return path
    with open_bytes(path) as handle:
        return io.BytesIO(handle.read())


def _nonblank_line(path: Path, row: int) -> str:
    lines = (number for number, line in raw_lines(path) if line.strip())
    for index, number in enumerate(lines):
        if index == row:
            return f"line {number}"
    return f"row {row + 1}"


def read_json_items(
    path: Path,
    options: ReadOptions,
    log_name: str | None = None,
    *,
    rename: Mapping[str, str] | None = None,
    defaults: tuple[str, ...] | None = None,
) -> Table:
    """Reads an items table with one object per line: JSON, or the Python literals of Amazon's 2014 files.

    `rename` maps field names of the file to other names; a field keeps its name if the other is taken.

    Raises:
        DataError: a line is neither, there is no id column, or the file is empty.
    """
    columns: dict[str, list[str | None]] = {}
    rows = 0
    for _, record in objects(path):
        for key, value in _renamed(record, rename or {}).items():
            column = columns.setdefault(key, [])
            column.extend([None] * (rows - len(column)))
            column.append(render(value))
        rows += 1
    for column in columns.values():
        column.extend([None] * (rows - len(column)))
    id_column = find_item_id(list(columns), options, str(path), log_name)
    frame = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    return Table(frame, id_column, str(path), (path,), defaults)


def _renamed(record: dict[str, Any], rename: Mapping[str, str]) -> dict[str, Any]:
    return {
        (rename[key] if key in rename and rename[key] not in record else key): value
        for key, value in record.items()
    }


def render(value: Any) -> str | None:
    """Formats a field as text: lists (nested ones too) joined by commas, mappings as `key: value`."""
    if value is None:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | tuple):
        parts = (render(part) for part in value)
        return ", ".join(part for part in parts if part)
    if isinstance(value, dict):
        pairs = ((key, render(part)) for key, part in value.items())
        return "; ".join(f"{key}: {part}" for key, part in pairs if part)
    return str(value)
