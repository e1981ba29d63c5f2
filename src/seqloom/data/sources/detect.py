"""Detects the format of a log or an items file."""

from __future__ import annotations

import re
from pathlib import Path

from seqloom.core.errors import DataError
from seqloom.data.columns import ALIASES
from seqloom.data.sources.amazon import is_amazon_log
from seqloom.data.sources.files import first_lines, first_objects, require_file, suffix
from seqloom.data.sources.movielens import LOGS
from seqloom.data.sources.yelp import is_yelp_log

_FORMATS = "csv, parquet, jsonl, recbole, movielens, amazon, yelp, sequences"
_JSON = (".json", ".jsonl", ".ndjson")
_CSV = (".csv", ".tsv")
_PARQUET = (".parquet", ".pq")


def detect_format(path: Path) -> str:
    """Detects the format of the log at `path` (a file or a folder).

    Raises:
        DataError: the path does not exist, or no known format fits.
    """
    if path.is_dir():
        return _detect_folder(path)
    require_file(path)
    kind = suffix(path)
    if kind == ".inter":
        return "recbole"
    if path.name in LOGS and (path.suffix != ".csv" or path.with_name("movies.csv").exists()):
        return "movielens"
    if kind in _CSV:
        return "csv"
    if kind in _PARQUET:
        return "parquet"
    if kind in _JSON:
        return _detect_json(path)
    if kind in (".txt", ".dat", ".seq", ""):
        return _detect_text(path)
    raise DataError(
        f"{path}: the format of {kind!r} files is not known; set format to one of {_FORMATS}"
    )


def _detect_folder(path: Path) -> str:
    if any(path.glob("*.inter")):
        return "recbole"
    if any((path / name).exists() for name in LOGS):
        return "movielens"
    if any(path.glob("*review*.json*")):
        return "yelp"
    if any(path.glob("*.parquet")):
        return "parquet"
    names = ", ".join(sorted(child.name for child in path.iterdir())[:5]) or "nothing"
    raise DataError(
        f"{path} is a folder with an unknown format; it holds {names}. Folders can be RecBole (*.inter), "
        f"MovieLens ({', '.join(LOGS)}), Yelp (*review*.json) or Parquet files; otherwise give the path "
        "of the log file"
    )


def _detect_json(path: Path) -> str:
    keys = [key for value in first_objects(path, 5) for key in value]
    if is_amazon_log(keys):
        return "amazon"
    return "yelp" if is_yelp_log(keys) else "jsonl"


def _detect_text(path: Path) -> str:
    lines = first_lines(path, 5)
    if lines[0].lstrip().startswith("{"):
        return _detect_json(path)
    commas = {line.count(",") for line in lines}
    tabs = {line.count("\t") for line in lines}
    constant = len(commas) == 1 and commas != {0}
    # Two or more tabs on every line: columns (as in u.data), not a user and its items.
    if _named(lines[0]) or constant or (len(tabs) == 1 and min(tabs) > 1):
        return "csv"
    if all(len(line.split()) >= 2 for line in lines):
        return "sequences"
    raise DataError(
        f"{path} is neither a table nor lines `USER ITEM ITEM ...`; it begins with "
        f"{lines[0][:80]!r}. Set format to one of {_FORMATS}"
    )


def _named(header: str) -> bool:
    """Returns whether a line looks like a header: one of its fields is a known column name."""
    known = {alias for aliases in ALIASES.values() for alias in aliases}
    return any(field.strip('"').lower() in known for field in re.split(r"[,\t;| ]+", header))


def detect_items_format(path: Path) -> str:
    """Detects the format of the items file at `path`: csv, parquet, json, recbole or movielens.

    Raises:
        DataError: the path does not exist, or no known format fits.
    """
    if path.is_dir():
        if any(path.glob("*.parquet")):
            return "parquet"
        raise DataError(f"{path} is a folder; give the path of the items file")
    require_file(path)
    kind = suffix(path)
    if kind == ".item" and path.name != "u.item":
        return "recbole"
    if path.name in LOGS.values() and path.name != "movies.csv":
        return "movielens"
    if kind in _CSV:
        return "csv"
    if kind in _PARQUET:
        return "parquet"
    if kind in _JSON or first_lines(path, 1)[0].lstrip().startswith("{"):
        return "json"
    raise DataError(
        f"{path} has an unknown format; it begins with {first_lines(path, 1)[0][:80]!r}. An items file is "
        "CSV, TSV, Parquet, JSON lines, RecBole (.item) or MovieLens (u.item, movies.dat)"
    )
