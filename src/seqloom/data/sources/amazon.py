"""Amazon reviews of 2014, 2018 and 2023, with their metadata files."""

from __future__ import annotations

from pathlib import Path

from seqloom.core.errors import DataError
from seqloom.data.options import ReadOptions
from seqloom.data.sources.base import Names, Source, Table
from seqloom.data.sources.jsonl import json_keys, read_json_items, read_json_log

_OLD = Names("reviewerID", "asin", "unixReviewTime", "overall")
_NEW = Names("user_id", "parent_asin", "timestamp", "rating")
_RENAME = {"store": "brand", "category": "categories", "feature": "features"}
_TEXT = ("title", "brand", "categories", "features", "description", "price")


def is_amazon_log(keys: list[str]) -> bool:
    """Returns whether a log with these fields is a file of Amazon reviews."""
    return any({names.user, names.item} <= set(keys) for names in (_OLD, _NEW))


def read_amazon(path: Path, options: ReadOptions) -> Source:
    """Reads a file of reviews, one JSON object per line (`.gz` too).

    Items are `asin` (2014, 2018) or `parent_asin` (2023, the key of its metadata).

    Raises:
        DataError: the fields are of no known release, or a line is not JSON.
    """
    if path.is_dir():
        raise DataError(
            f"{path} is a folder; give the path of the reviews file, and of the metadata with `items`"
        )
    keys = json_keys(path)
    names = _NEW if "parent_asin" in keys else _OLD
    needed = {names.user, names.item}
    if not needed <= set(keys):
        raise DataError(
            f"{path} has the fields {', '.join(keys)}, but Amazon reviews have "
            f"{', '.join(sorted(needed))}; check the path or set another format"
        )
    known = names.by_role()
    names = Names(
        names.user,
        names.item,
        known["timestamp"] if known["timestamp"] in keys else None,
        known["rating"] if known["rating"] in keys else None,
    )
    return read_json_log(path, options, names, "amazon")


def read_amazon_items(path: Path, options: ReadOptions, log_name: str | None) -> Table:
    """Reads a metadata file: JSON lines, or the Python literals of 2014 (parsed, never evaluated).

    Renames `store`, `category` and `feature` to `brand`, `categories` and `features`, their names in
    the other releases.

    Raises:
        DataError: a line is neither, or there is no `asin`.
    """
    return read_json_items(path, options, log_name, rename=_RENAME, defaults=_TEXT)
