"""Reads Parquet files and folders of Parquet files."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from seqloom.core.errors import DataError
from seqloom.data.columns import find_item_id, find_names
from seqloom.data.options import ReadOptions
from seqloom.data.sources.base import Source, Table
from seqloom.data.sources.files import require_file


def parquet_files(path: Path) -> tuple[Path, ...]:
    """Returns the file itself, or the files of a folder in the order of their names.

    Raises:
        DataError: there is no file.
    """
    if not path.is_dir():
        return (require_file(path),)
    parts = tuple(sorted(path.glob("*.parquet")))
    if not parts:
        raise DataError(f"{path} holds no .parquet file; check the path")
    return tuple(require_file(part) for part in parts)


def _scan(files: tuple[Path, ...], where: str) -> tuple[pl.LazyFrame, pl.Schema]:
    try:
        frame = pl.scan_parquet(list(files), hive_partitioning=False)
        return frame, frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{where} cannot be read as Parquet: {error}") from None


def coded(name: str, dtype: pl.DataType) -> pl.Expr:
    """Selects an id column, strings as codes: 4 bytes per row while the file is streamed."""
    column = pl.col(name)
    return column.cast(pl.Categorical(pl.Categories.random())) if dtype == pl.String else column


def read_parquet(path: Path, options: ReadOptions) -> Source:
    """Reads a Parquet log. Reads only the needed columns, streamed.

    Raises:
        DataError: a file is not Parquet, the files differ in their columns, or a column is missing or
            ambiguous.
    """
    files = parquet_files(path)
    scan, schema = _scan(files, str(path))
    names = find_names(schema.names(), options, str(path))
    roles = names.by_role()
    chosen = [
        (coded(own, schema[own]) if role in ("user_id", "item_id") else pl.col(own)).alias(role)
        for role, own in roles.items()
    ]
    try:
        frame = scan.select(chosen).collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from None
    columns = {role: frame[role] for role in roles}
    return Source("parquet", str(path), columns, names, files)


def read_parquet_items(path: Path, options: ReadOptions, log_name: str | None) -> Table:
    """Reads an items table in Parquet.

    Raises:
        DataError: as `read_parquet`.
    """
    files = parquet_files(path)
    scan, schema = _scan(files, str(path))
    id_column = find_item_id(schema.names(), options, str(path), log_name)
    try:
        return Table(scan.collect(), id_column, str(path), files)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from None
