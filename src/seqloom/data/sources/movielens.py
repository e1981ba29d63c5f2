"""Reads MovieLens: 100K (`u.data`), 1M and 10M (`ratings.dat`), later releases (`ratings.csv`)."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from seqloom.core.errors import DataError
from seqloom.data.options import ReadOptions
from seqloom.data.sources.base import (
    Column,
    Names,
    Source,
    Table,
)
from seqloom.data.sources.delimited import Delimited
from seqloom.data.sources.files import require_file, text_lines

LOGS = {"u.data": "u.item", "ratings.dat": "movies.dat", "ratings.csv": "movies.csv"}
"""The log of each release, and the items file in the same folder."""
_FIELDS = ("user_id", "item_id", "rating", "timestamp")
_NAMES = Names("user_id", "item_id", "timestamp", "rating")
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip


def read_movielens(path: Path, options: ReadOptions) -> Source:
    """Reads a MovieLens folder, or its log file with the items file in the same folder.

    Raises:
        DataError: there is no MovieLens log, or a line does not have the fields of the release.
    """
    if path.is_dir():
        logs = [path / name for name in LOGS if (path / name).exists()]
        if not logs:
            raise DataError(f"{path} holds no MovieLens log; one of {', '.join(LOGS)} is needed")
        path = logs[0]
    if path.name not in LOGS:
        raise DataError(
            f"{path} is not the name of a MovieLens log; one of {', '.join(LOGS)} is needed"
        )
    items = path.with_name(LOGS[path.name])
    plain = options.model_copy(update={"header": True, "separator": None})
    if path.suffix == ".dat":
        columns: dict[str, Column] = _read_dat(path)
        locate = _dat_line
    else:
        header = list(_FIELDS) if path.name == "u.data" else None
        separator = "\t" if path.name == "u.data" else ","
        file = Delimited(
            path, plain, names=header, separator=separator, encoding="latin-1", quoted=False
        )
        own = _NAMES if header else Names("userId", "movieId", "timestamp", "rating")
        missing = sorted(set(own.by_role().values()) - set(file.header))
        if missing:
            raise DataError(
                f"{path}: no column {', '.join(missing)}; columns: {', '.join(file.header)}"
            )
        columns = file.columns(own)
        locate = file.locate
    return Source(
        "movielens",
        str(path),
        columns,
        _NAMES,
        (path,),
        locate,
        items=(lambda: read_movielens_items(items, options)) if items.exists() else None,
    )


def read_movielens_items(path: Path, options: ReadOptions) -> Table:
    """Reads `u.item`, `movies.dat` or `movies.csv`: `item_id`, `title`, `genres` (separated by commas).

    Raises:
        DataError: a line does not have the fields of the release.
    """
    plain = options.model_copy(update={"header": True, "separator": None})
    if path.name == "u.item":
        names = ["item_id", "title", "release_date", "video_date", "url", *_GENRES]
        file = Delimited(path, plain, names=names, separator="|", encoding="latin-1", quoted=False)
        frame = file.frame().select(
            "item_id",
            "title",
            pl.concat_list(pl.when(pl.col(g) == "1").then(pl.lit(g)) for g in _GENRES)
            .list.drop_nulls()
            .list.join(", ")
            .alias("genres"),
        )
    elif path.name == "movies.dat":
        frame = _split_dat(path, ("item_id", "title", "genres"))
    else:
        file = Delimited(path, plain, separator=",", encoding="utf-8", is_log=False)
        frame = file.frame().rename({"movieId": "item_id"}, strict=False)
    if not {"item_id", "title", "genres"} <= set(frame.columns):
        raise DataError(
            f"{path}: the columns movieId, title and genres are needed; columns: {', '.join(frame.columns)}"
        )
    genres = pl.col("genres").str.replace_all("|", ", ", literal=True)
    return Table(frame.with_columns(genres), "item_id", str(path), (path,))


def _dat_line(row: int) -> str:
    return f"line {row + 1}"


def _read_dat(path: Path) -> dict[str, Column]:
    frame = _split_dat(path, _FIELDS)
    return {name: frame[name] for name in frame.columns}


def _split_dat(path: Path, names: tuple[str, ...]) -> pl.DataFrame:
    """Splits lines at `::`; every line must have exactly the named fields."""
    require_file(path)
    lines = pl.Series("line", [line for _, line in text_lines(path, "latin-1")], dtype=pl.String)
    fields = lines.str.count_matches("::", literal=True) + 1
    bad = (fields != len(names)).arg_max() if (fields != len(names)).any() else None
    if bad is not None:
        raise DataError(
            f"{path}, line {bad + 1}: {fields[bad]} fields separated by '::', {len(names)} are needed "
            f"({', '.join(names)}); the line is {lines[bad]!r}"
        )
    parts = lines.str.split("::")
    return pl.DataFrame({name: parts.list.get(i) for i, name in enumerate(names)})
