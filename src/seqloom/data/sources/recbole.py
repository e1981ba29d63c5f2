"""Reads RecBole's atomic files: tab-separated, with typed headers such as `user_id:token`."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from seqloom.core.errors import DataError
from seqloom.data.columns import find_column, find_item_id, find_names
from seqloom.data.options import ReadOptions
from seqloom.data.sources.base import Source, Table
from seqloom.data.sources.delimited import Delimited

_TYPES = {"token", "token_seq", "float", "float_seq"}


def read_recbole(path: Path, options: ReadOptions) -> Source:
    """Reads a `.inter` file, or the folder that holds it, with the `.item` and `.user` files beside it.

    Raises:
        DataError: there is not exactly one `.inter` file, a header has no type, a column is missing, or a
            line is ragged.
    """
    inter = _only(path, "*.inter") if path.is_dir() else path
    file = _open(inter, options)
    names = find_names(file.header, options, str(inter))
    types = dict(zip(file.header, file.raw_header, strict=True))
    if types[names.item].endswith("_seq"):
        raise DataError(
            f"{inter}: column {types[names.item]!r} holds a list of items per line (a RecBole "
            "benchmark file); give the .inter file with one interaction per line"
        )
    items, users = inter.with_suffix(".item"), inter.with_suffix(".user")
    return Source(
        "recbole",
        str(inter),
        file.columns(names),
        names,
        (inter,),
        lambda row: file.locate(row),
        items=(lambda: read_recbole_items(items, options, names.item)) if items.exists() else None,
        users=(lambda: _read_users(users, options, names.user)) if users.exists() else None,
    )


def read_recbole_items(path: Path, options: ReadOptions, log_name: str | None) -> Table:
    """Reads a `.item` file; every column except the id is text, without its type.

    Raises:
        DataError: as `read_recbole`.
    """
    file = _open(path, options)
    id_column = find_item_id(file.header, options, str(path), log_name)
    return Table(_texts(file), id_column, str(path), (path,))


def _read_users(path: Path, options: ReadOptions, log_name: str) -> Table:
    file = _open(path, options)
    override = log_name if log_name in file.header else None
    id_column = find_column("user", file.header, override, str(path), required=True)
    assert id_column is not None
    return Table(_texts(file), id_column, str(path), (path,))


def _texts(file: Delimited) -> pl.DataFrame:
    """Reads all columns as strings; whole numbers in float columns lose their decimals (1995.0)."""
    floats = [
        name
        for name, raw in zip(file.header, file.raw_header, strict=True)
        if raw.endswith(":float")
    ]
    return file.frame().with_columns(pl.col(floats).str.replace(r"\.0+$", ""))


def _open(path: Path, options: ReadOptions) -> Delimited:
    file = Delimited(
        path, options, separator=options.separator or "\t", quoted=False, split_types=True
    )
    for raw in file.raw_header:
        if raw.rsplit(":", 1)[-1] not in _TYPES or ":" not in raw:
            raise DataError(
                f"{path}, line 1: header field {raw!r} has no RecBole type "
                f"({', '.join(sorted(_TYPES))}); write it as `name:type`, with fields separated by tabs"
            )
    return file


def _only(folder: Path, pattern: str) -> Path:
    hits = sorted(folder.glob(pattern))
    if len(hits) != 1:
        names = ", ".join(hit.name for hit in hits) or "none"
        raise DataError(
            f"{folder}: one {pattern} file is needed, but it holds {names}; give the path of the file"
        )
    return hits[0]
