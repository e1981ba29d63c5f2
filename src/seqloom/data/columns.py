"""Finds the user, item, time and rating columns of a log by their names."""

from __future__ import annotations

from collections.abc import Sequence

from seqloom.core.errors import DataError
from seqloom.data.options import ReadOptions
from seqloom.data.sources.base import Names

ALIASES: dict[str, tuple[str, ...]] = {
    "user": (
        "user_id", "user", "userid", "uid", "reviewerid", "reviewer_id", "visitorid", "visitor_id",
        "customer_id", "customerid", "member_id", "session_id", "sessionid",
    ),
    "item": (
        "item_id", "item", "itemid", "iid", "movieid", "movie_id", "parent_asin", "asin",
        "business_id", "product_id", "productid", "article_id", "articleid", "track_id", "book_id",
        "sku",
    ),
    "timestamp": (
        "timestamp", "time", "ts", "datetime", "date", "unixreviewtime", "unix_time", "event_time",
        "created_at",
    ),
    "rating": ("rating", "ratings", "overall", "stars", "score"),
}  # fmt: skip
"""Known column names, compared without case. The first of each role is the canonical one."""


def find_column(
    role: str, columns: Sequence[str], override: str | None, where: str, *, required: bool
) -> str | None:
    """Returns the column of `role`, or None where no column fits and none is required.

    The canonical name takes precedence; otherwise exactly one known name may be present.

    Raises:
        DataError: the override does not exist, several columns fit, or a required column is missing.
    """
    listed = ", ".join(columns) or "none"
    if override is not None:
        if override not in columns:
            raise DataError(f"{where}: no column {override!r} ({role}_column); columns: {listed}")
        return override
    aliases = ALIASES[role]
    hits = [name for name in columns if name.lower() in aliases]
    canonical = [name for name in hits if name.lower() == aliases[0]]
    if len(canonical) == 1 or len(hits) == 1:
        return (canonical or hits)[0]
    if hits:
        raise DataError(
            f"{where}: several columns may be the {role}: {', '.join(hits)}; "
            f"choose one with {role}_column"
        )
    if required:
        raise DataError(
            f"{where}: no {role} column; columns: {listed}; name it with {role}_column "
            f"(known names: {', '.join(aliases)}). If the file has no header line, set "
            f"header=false and name the columns by number: {role}_column='1'"
        )
    return None


def find_names(columns: Sequence[str], options: ReadOptions, where: str) -> Names:
    """Finds the columns of a log by role.

    Raises:
        DataError: a required column is missing, ambiguous, named twice or used for two roles.
    """
    user = find_column("user", columns, options.user_column, where, required=True)
    item = find_column("item", columns, options.item_column, where, required=True)
    time = find_column("timestamp", columns, options.timestamp_column, where, required=False)
    rating = find_column("rating", columns, options.rating_column, where, required=False)
    assert user is not None
    assert item is not None
    used = [name for name in (user, item, time, rating) if name is not None]
    for name in used:
        if used.count(name) > 1:
            raise DataError(f"{where}: column {name!r} is used for two roles; name each column")
        if list(columns).count(name) > 1:
            raise DataError(f"{where}: the header has column {name!r} more than once; rename one")
    return Names(user, item, time, rating)


def find_item_id(
    columns: Sequence[str], options: ReadOptions, where: str, log_name: str | None = None
) -> str:
    """Finds the id column of an items table: the override, the name in the log, else a known name.

    Raises:
        DataError: no column fits, or several columns fit.
    """
    override = options.items_id_column
    if override is not None and override not in columns:
        raise DataError(
            f"{where}: no column {override!r} (items_id_column); columns: {', '.join(columns)}"
        )
    if override is None and log_name is not None and log_name in columns:
        override = log_name
    if override is None and "id" in columns:
        known = [name for name in columns if name.lower() in ALIASES["item"]]
        override = None if known else "id"
    try:
        column = find_column("item", columns, override, where, required=True)
    except DataError as error:
        message = str(error).replace("item_column", "items_id_column")
        raise DataError(message) from None
    assert column is not None
    return column
