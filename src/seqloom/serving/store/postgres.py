"""The store for several servers: PostgreSQL, through psycopg and its pool of connections."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from seqloom.core.errors import ConfigError, StoreError
from seqloom.serving.store.base import Event
from seqloom.serving.store.migrations import steps
from seqloom.serving.store.sql import Cursor, SqlStore

T = TypeVar("T")
_LOCK = 0x5E91_0031
"""Of the migration: one server at a time changes the schema."""
_CONNECT_TIMEOUT_S = 10
_COPY_FROM = 64
"""From so many rows on, COPY is quicker than INSERT."""


class PostgresStore(SqlStore):
    """See the module. `url` is a libpq URL.

    Raises:
        ConfigError: psycopg is not installed.
        StoreError: the server cannot be reached.
        ArtefactError: the schema is newer than this seqloom.
    """

    name = "postgresql"

    def __init__(self, url: str, *, connections: int = 8) -> None:
        try:
            import psycopg
            from psycopg_pool import ConnectionPool, PoolTimeout
        except ImportError:
            raise ConfigError(
                "the PostgreSQL store needs psycopg; pip install 'seqloom[postgresql]'"
            ) from None
        self._error_types: tuple[type[Exception], ...] = (psycopg.Error, PoolTimeout)
        parts = urlsplit(url)
        self.where = f"PostgreSQL store {parts.hostname or 'local'}{parts.path}"
        self._pool: Any = ConnectionPool(
            url,
            min_size=1,
            max_size=connections,
            timeout=_CONNECT_TIMEOUT_S,
            open=False,
            # A connection that the server has closed meanwhile is replaced, not handed out.
            check=ConnectionPool.check_connection,
            kwargs={"application_name": "seqloom"},
        )
        try:
            with self._errors():
                # A wrong address or password is said at once, not after the pool's retries.
                psycopg.connect(url, connect_timeout=_CONNECT_TIMEOUT_S).close()
                self._pool.open()
                self._migrate()
        except BaseException:
            self._pool.close()
            raise

    def _migrate(self) -> None:
        with self._pool.connection() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            cursor.execute("CREATE TABLE IF NOT EXISTS seqloom_schema (version BIGINT NOT NULL)")
            cursor.execute("SELECT coalesce(max(version), 0) FROM seqloom_schema")
            (found,) = cursor.fetchone()
            for version, statements in steps("postgresql", found, self.where):
                for statement in statements:
                    cursor.execute(statement)
                cursor.execute("INSERT INTO seqloom_schema VALUES (%s)", (version,))

    def _sql(self, statement: str) -> str:
        return statement.replace("?", "%s")

    def _write(self, work: Callable[[Cursor], T]) -> T:
        with self._errors(), self._pool.connection() as connection:
            # Whatever the server's default: what is acknowledged is on disk.
            connection.execute("SET LOCAL synchronous_commit = on")
            with connection.cursor() as cursor:
                return work(cursor)

    def _read(self, work: Callable[[Cursor], T]) -> T:
        with self._errors(), self._pool.connection() as connection, connection.cursor() as cursor:
            return work(cursor)

    def _bulk_insert(self, cursor: Any, rows: Sequence[Event]) -> None:
        if len(rows) < _COPY_FROM:
            super()._bulk_insert(cursor, rows)
            return
        with cursor.copy("COPY events (user_id, item_id, timestamp) FROM STDIN") as copy:
            for event in rows:
                copy.write_row((event.user_id, event.item_id, event.timestamp))

    def histories(self, users: Sequence[str], limit: int) -> dict[str, list[str]]:
        """See `Store`. One statement for all users."""

        def work(cursor: Cursor) -> dict[str, list[str]]:
            cursor.execute(
                "SELECT u.id, array(SELECT item_id FROM events WHERE user_id = u.id "
                "ORDER BY timestamp DESC, seq DESC LIMIT %s) FROM unnest(%s::text[]) AS u(id)",
                (limit, list(users)),
            )
            return {user: items[::-1] for user, items in cursor.fetchall() if items}

        return self._read(work)

    def close(self) -> None:
        """See `Store`."""
        self._pool.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._error_types as error:
            raise StoreError(f"{self.where}: {error}") from error
