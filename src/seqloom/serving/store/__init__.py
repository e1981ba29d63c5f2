"""From a store's URL to the store."""

from __future__ import annotations

from pathlib import Path

from seqloom.core.errors import ConfigError
from seqloom.core.progress import SILENT, Progress
from seqloom.serving.store.base import Store

DEFAULT_URL = "sqlite:///seqloom.db"


def open_store(url: str = DEFAULT_URL, progress: Progress = SILENT) -> Store:
    """Open the store at `url` and bring its schema up to date.

    `sqlite:///FILE` (relative) or `sqlite:////FILE` (absolute), `postgresql://USER:PASSWORD@HOST/NAME`,
    `redis://HOST:PORT/NUMBER`.

    Raises:
        ConfigError: the URL is of no known kind, or the kind's library is not installed.
        StoreError: the database cannot be opened.
        ArtefactError: its schema is newer than this seqloom.
    """
    kind, _, rest = url.partition("://")
    if kind == "sqlite":
        if not rest.startswith("/") or len(rest) < 2:
            raise ConfigError(f"store {url!r}: write sqlite:///FILE")
        from seqloom.serving.store.sqlite import SqliteStore

        return SqliteStore(Path(rest[1:]))
    if kind in ("postgresql", "postgres"):
        from seqloom.serving.store.postgres import PostgresStore

        return PostgresStore(url)
    if kind in ("redis", "rediss"):
        from seqloom.serving.store.redis import RedisStore

        return RedisStore(url, progress=progress)
    # The URL may hold a password: only its kind is repeated.
    raise ConfigError(
        f"there is no store of kind {kind[:20]!r}; allowed: sqlite:///FILE, postgresql://..., redis://..."
    )
