"""Reads data frames in memory (pandas, polars, pyarrow) with narwhals."""

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
    """Returns the name of a frame in messages: `pandas.DataFrame`, `polars.LazyFrame`, ..."""
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
            f"a {type(frame).__name__} is not a data source; give a path or a pandas, polars or "
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
    """Reads a log in memory; without a time column, the order of the rows is the order of time.

    Raises:
        DataError: the source is not a frame, a column is missing, ambiguous or of mixed types, or there are
            no rows.
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
    """Reads an items table in memory.

    Raises:
        DataError: as `read_frame`.
    """
    name = frame_name(items)
    frame = _open(items)
    id_column = find_item_id(frame.columns, options, name, log_name)
    return Table(_to_polars(frame, frame.columns, name), id_column, name)
