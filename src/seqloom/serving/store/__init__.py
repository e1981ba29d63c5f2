"""Opens the store of a URL."""

from __future__ import annotations

from pathlib import Path

from seqloom.core.progress import SILENT, Progress
from seqloom.serving.store.base import Store
from seqloom.serving.store.url import parse_store_url

DEFAULT_URL = "sqlite:///seqloom.db"


def open_store(url: str = DEFAULT_URL, progress: Progress = SILENT) -> Store:
    """Opens the store at `url` and updates its schema.

    `sqlite:///FILE` (relative) or `sqlite:////FILE` (absolute), `postgresql://USER:PASSWORD@HOST/NAME`,
    `redis://HOST:PORT/NUMBER`.

    Raises:
        ConfigError: the URL cannot be read, or the kind's library is not installed.
        StoreError: the database cannot be opened.
        ArtefactError: its schema is newer than this seqloom.
    """
    parsed = parse_store_url(url)
    if parsed.kind == "sqlite":
        from seqloom.serving.store.sqlite import SqliteStore

        return SqliteStore(Path(parsed.shown))
    if parsed.kind == "postgresql":
        from seqloom.serving.store.postgres import PostgresStore

        return PostgresStore(parsed)
    from seqloom.serving.store.redis import RedisStore

    return RedisStore(parsed, progress=progress)
