"""Data frames in memory (pandas, polars, pyarrow), through narwhals."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import polars as pl
import pyarrow as pa

from seqloom.core.errors import DataError
from seqloom.data.columns import find_item_id, find_names
from seqloom.data.options import ReadOptions
from seqloom.data.sources.base import Source, Table


def frame_name(frame: Any) -> str:
    """`pandas.DataFrame`, `polars.LazyFrame`, ...: what to call the frame in messages."""
    kind = type(frame)
    return f"{kind.__module__.split('.')[0]}.{kind.__name__}"


def _open(frame: Any) -> nw.DataFrame[Any]:
    try:
        opened = nw.from_native(frame)
        opened.collect_schema()
    except nw.exceptions.DuplicateError as error:
        raise DataError(f"{frame_name(frame)}: {error}; rename the columns") from None
    except TypeError:
        raise DataError(
            f"a {type(frame).__name__} is no data source; give a path or a pandas, polars or "
            "pyarrow frame"
        ) from None
    return opened.collect() if isinstance(opened, nw.LazyFrame) else opened


def _to_polars(frame: nw.DataFrame[Any], columns: list[str], name: str) -> pl.DataFrame:
    parts = []
    for column in columns:
        try:
            parts.append(frame.select(column).to_polars())
        except (pa.ArrowException, TypeError, ValueError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"{name}, column {column!r} holds values of several types ({error}); convert it to "
                "strings"
            ) from None
    return pl.concat(parts, how="horizontal")


def read_frame(source: Any, options: ReadOptions) -> Source:
    """A log in memory; rows are in the order of time where there is no time column.

    Raises:
        DataError: no frame, a missing or ambiguous column, mixed types, no rows.
    """
    name = frame_name(source)
    frame = _open(source)
    names = find_names(frame.columns, options, name)
    roles = names.by_role()
    data = _to_polars(frame, list(roles.values()), name)
    if data.height == 0:
        raise DataError(f"{name} is empty: it has no rows")
    return Source("frame", name, {role: data[own] for role, own in roles.items()}, names)


def read_frame_items(items: Any, options: ReadOptions, log_name: str | None) -> Table:
    """An items table in memory.

    Raises:
        DataError: as `read_frame`.
    """
    name = frame_name(items)
    frame = _open(items)
    id_column = find_item_id(frame.columns, options, name, log_name)
    return Table(_to_polars(frame, frame.columns, name), id_column, name)
