"""Reads the tables of ids and texts that seqloom wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seqloom.core.damage import reading
from seqloom.core.errors import ArtefactError
from seqloom.core.records import FileRecord, check_file


def read_id_table(
    folder: Path,
    name: str,
    id_column: str,
    rows: int,
    records: Mapping[str, FileRecord],
    remedy: str,
) -> pa.Table:
    """Reads a Parquet table with one row per id, and checks its hash, its rows and its ids.

    Raises:
        ArtefactError: the file is missing, damaged or changed, or does not hold `rows` different ids.
    """
    file = folder / name
    check_file(folder, name, records, remedy)
    with reading(file, "a table of ids", remedy):
        # `pq.read_table` would import pyarrow's data sets and with them pandas, which takes 0.3 s.
        with pq.ParquetFile(file) as opened:
            table = opened.read()
        table.validate(full=True)
    kinds = (pa.string(), pa.large_string())
    if id_column not in table.column_names or table.schema.field(id_column).type not in kinds:
        raise ArtefactError(f"{file} has no text column {id_column!r}; {remedy}")
    ids = table.column(id_column)
    if table.num_rows != rows or ids.null_count:
        raise ArtefactError(
            f"{file} holds {table.num_rows:,} rows, {ids.null_count:,} of them without an id, but "
            f"{rows:,} ids are expected; {remedy}"
        )
    if (
        name not in records and pc.count_distinct(ids).as_py() != rows
    ):  # written before there were hashes
        raise ArtefactError(f"{file} holds ids that are not unique; {remedy}")
    return table
