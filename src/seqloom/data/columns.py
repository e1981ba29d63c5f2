"""Finds the user, item, time and rating columns of a log by their names."""

from __future__ import annotations

from collections.abc import Sequence

from seqloom.core.errors import DataError
from seqloom.core.suggestions import suggest
from seqloom.data.options import ReadOptions
from seqloom.data.sources.base import Names

ALIASES: dict[str, tuple[str, ...]] = {
    "user": (
        "user_id", "user", "userid", "uid", "reviewerid", "reviewer_id", "visitorid", "visitor_id",
        "customer_id", "customerid", "member_id", "client_id", "clientid", "account_id", "buyer_id",
        "shopper_id", "subscriber_id",
    ),
    "item": (
        "item_id", "item", "itemid", "iid", "movieid", "movie_id", "parent_asin", "asin",
        "business_id", "product_id", "productid", "article_id", "articleid", "track_id", "book_id",
        "sku", "sku_id", "product_code", "stockcode", "stock_code", "goods_id", "good_id", "content_id",
    ),
    "timestamp": (
        "timestamp", "time", "ts", "datetime", "date", "unixreviewtime", "unix_time", "event_time",
        "created_at", "event_timestamp", "event_date", "occurred_at", "purchased_at", "purchase_date",
        "purchase_time", "bought_at", "ordered_at", "order_date", "order_time", "invoicedate", "invoice_date",
        "viewed_at", "clicked_at", "rated_at",
    ),
    "rating": ("rating", "ratings", "overall", "stars", "score"),
}  # fmt: skip
"""Known column names, compared without case. The first of each role is the canonical one."""
LESS_SURE: dict[str, tuple[str, ...]] = {
    "user": (
        "customer", "client", "member", "account", "buyer", "shopper", "visitor", "subscriber", "session_id",
        "sessionid",
    ),
    "item": ("product", "article", "movie", "book", "track", "song", "isbn"),
}  # fmt: skip
"""Names that count only where no name of `ALIASES` is present: beside `product_id`, `product` is a title."""
_ROLES = ("user", "item", "timestamp", "rating")


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
            raise DataError(
                f"{where}: no column {override!r} ({role}_column){suggest(override, columns)}; "
                f"columns: {listed}"
            )
        return override
    aliases = ALIASES[role]
    hits = [name for name in columns if name.lower() in aliases]
    hits = hits or [name for name in columns if name.lower() in LESS_SURE.get(role, ())]
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
            f"(known names: {_known(role)}). If the file has no header line, set "
            f"header=false and name the columns by number: {role}_column='1'"
        )
    return None


def find_names(columns: Sequence[str], options: ReadOptions, where: str) -> Names:
    """Finds the columns of a log by role.

    Raises:
        DataError: a required column is missing, ambiguous, named twice or used for two roles.
    """
    _check_overrides(columns, options, where)
    user, item = (
        find_column(role, columns, options_of(role, options), where, required=False)
        for role in ("user", "item")
    )
    if user is None and item is None:
        raise DataError(
            f"{where}: no user and no item column; columns: {', '.join(columns) or 'none'}; name them with "
            f"user_column (known names: {_known('user')}) and item_column (known names: {_known('item')}). "
            "If the file has no header line, set header=false and name the columns by number: "
            "user_column='1', item_column='2'"
        )
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


def options_of(role: str, options: ReadOptions) -> str | None:
    """Returns the column that the options name for a role."""
    column: str | None = getattr(options, f"{role}_column")
    return column


def _check_overrides(columns: Sequence[str], options: ReadOptions, where: str) -> None:
    """Checks that all named columns exist, and names those that do not in one error."""
    named = {role: options_of(role, options) for role in _ROLES}
    missing = {r: column for r, column in named.items() if column and column not in columns}
    if len(missing) < 2:
        return
    parts = [f"{c!r} ({r}_column{suggest(c, columns)})" for r, c in missing.items()]
    raise DataError(
        f"{where}: no columns {' and '.join(parts)}; columns: {', '.join(columns) or 'none'}"
    )


def _known(role: str) -> str:
    return ", ".join((*ALIASES[role], *LESS_SURE.get(role, ())))


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
        names = (*ALIASES["item"], *LESS_SURE["item"])
        known = [name for name in columns if name.lower() in names]
        override = None if known else "id"
    try:
        column = find_column("item", columns, override, where, required=True)
    except DataError as error:
        message = str(error).replace("item_column", "items_id_column")
        raise DataError(message) from None
    assert column is not None
    return column
