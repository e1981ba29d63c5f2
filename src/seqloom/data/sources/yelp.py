"""Reads the Yelp open data set: reviews, and businesses as items."""

from __future__ import annotations

from pathlib import Path

from seqloom.core.errors import DataError
from seqloom.data.options import ReadOptions
from seqloom.data.sources.base import Names, Source, Table
from seqloom.data.sources.jsonl import json_keys, read_json_items, read_json_log

_NAMES = Names("user_id", "business_id", "date", "stars")
_TEXT = ("title", "categories", "city", "state")


def is_yelp_log(keys: list[str]) -> bool:
    """Returns whether a log with these fields is Yelp's file of reviews."""
    return {_NAMES.user, _NAMES.item, "date"} <= set(keys)


def read_yelp(path: Path, options: ReadOptions) -> Source:
    """Reads Yelp's folder (`*review.json`, `*business.json`), or the reviews file.

    Raises:
        DataError: there is not exactly one reviews file, fields are missing, or a line is not JSON.
    """
    folder = path if path.is_dir() else path.parent
    reviews = _only(folder, "review") if path.is_dir() else path
    keys = json_keys(reviews)
    missing = [name for name in _NAMES.by_role().values() if name not in keys]
    if missing:
        raise DataError(
            f"{reviews}: the fields {', '.join(missing)} of Yelp reviews are missing; check the path or set "
            "another format"
        )
    log = read_json_log(reviews, options, _NAMES, "yelp")
    if not _files(folder, "business"):
        return log
    business = _only(folder, "business")
    return Source(
        log.format,
        log.name,
        log.columns,
        log.names,
        log.files,
        log.locate,
        items=lambda: read_yelp_items(business, options),
    )


def read_yelp_items(path: Path, options: ReadOptions) -> Table:
    """Reads Yelp's file of businesses; renames `name` to `title`.

    Raises:
        DataError: a line is not JSON, or there is no `business_id`.
    """
    return read_json_items(path, options, _NAMES.item, rename={"name": "title"}, defaults=_TEXT)


def _files(folder: Path, word: str) -> list[Path]:
    return sorted(hit for kind in ("json", "jsonl") for hit in folder.glob(f"*{word}*.{kind}*"))


def _only(folder: Path, word: str) -> Path:
    hits = _files(folder, word)
    if len(hits) != 1:
        names = ", ".join(hit.name for hit in hits) or "none"
        raise DataError(
            f"{folder}: one *{word}*.json file is needed, but it holds {names}; give the path of the file"
        )
    return hits[0]
