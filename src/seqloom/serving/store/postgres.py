"""The store for several servers: PostgreSQL, through psycopg and its pool of connections."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from seqloom.core.errors import ConfigError, StoreError
from seqloom.serving.store.base import UNKNOWN_TIME, Event
from seqloom.serving.store.migrations import TABLES, steps
from seqloom.serving.store.sql import Cursor, SqlStore
from seqloom.serving.store.url import StoreUrl

T = TypeVar("T")
_LOCK = 0x5E91_0031
"""Lock of the migration: one server at a time changes the schema."""
_ERASURES_LOCK = 0x5E91_0032
"""Lock shared by imports and exclusive to an erasure, which therefore sees all imported events."""
_CONNECT_TIMEOUT_S = 10
_LOCK_TIMEOUT_S = 3
"""How long to wait for a lock of another connection."""
_ATTEMPTS = 4
"""Attempts of a transaction: those that write the same events in another order can deadlock."""


class PostgresStore(SqlStore):
    """A store in PostgreSQL. Blocked writes do not block reads, which use other connections.

    Raises:
        ConfigError: psycopg is not installed.
        StoreError: the server cannot be reached.
        ArtefactError: the schema is newer than this seqloom.
    """

    name = "postgresql"

    def __init__(self, url: StoreUrl, *, connections: int = 8) -> None:
        try:
            import psycopg
            from psycopg_pool import ConnectionPool, PoolTimeout
        except ImportError:
            raise ConfigError(
                "the PostgreSQL store needs psycopg; pip install 'seqloom[postgresql]'"
            ) from None
        self._error_types: tuple[type[Exception], ...] = (psycopg.Error, PoolTimeout)
        self._collisions = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
        self._url = url
        self.where = f"PostgreSQL store {url.shown}"

        def pool() -> Any:
            return ConnectionPool(
                url.url,
                min_size=1,
                max_size=connections // 2,
                timeout=_CONNECT_TIMEOUT_S,
                open=False,
                # A connection that the server has closed meanwhile is replaced.
                check=ConnectionPool.check_connection,
                configure=_configure,
                kwargs={"application_name": "seqloom"},
            )

        self._readers, self._writers = pool(), pool()
        try:
            with self._errors():
                # A wrong address or password is reported immediately, not after the pool's retries.
                psycopg.connect(url.url, connect_timeout=_CONNECT_TIMEOUT_S).close()
                self._readers.open()
                self._writers.open()
                self._migrate()
        except BaseException:
            self.close()
            raise

    def _migrate(self) -> None:
        with self._writers.connection() as connection, connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = 0")  # another server may be migrating
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            cursor.execute("CREATE TABLE IF NOT EXISTS seqloom_schema (version BIGINT NOT NULL)")
            cursor.execute("SELECT coalesce(max(version), 0) FROM seqloom_schema")
            (current,) = cursor.fetchone()
            for version, statements in steps("postgresql", current, self.where):
                for statement in statements:
                    cursor.execute(statement)
                cursor.execute("INSERT INTO seqloom_schema VALUES (%s)", (version,))

    def _sql(self, statement: str) -> str:
        return statement.replace("?", "%s")

    def _write(self, work: Callable[[Cursor], T]) -> T:
        with self._errors():
            for _ in range(_ATTEMPTS - 1):
                with contextlib.suppress(*self._collisions):
                    return self._write_once(work)
            return self._write_once(work)

    def _write_once(self, work: Callable[[Cursor], T]) -> T:
        with self._writers.connection() as connection:
            # Acknowledged writes are on disk, independent of the server's default.
            connection.execute("SET LOCAL synchronous_commit = on")
            with connection.cursor() as cursor:
                return work(cursor)

    def _read(self, work: Callable[[Cursor], T]) -> T:
        with (
            self._errors(),
            self._readers.connection() as connection,
            connection.cursor() as cursor,
        ):
            return work(cursor)

    def _insert(self, cursor: Cursor, rows: Sequence[Event]) -> int:
        if not rows:
            return 0
        columns = zip(
            *((e.user_id, e.item_id, e.timestamp, e.occurrence) for e in rows), strict=True
        )
        cursor.execute(
            "INSERT INTO events (user_id, item_id, timestamp, occurrence) "
            "SELECT user_id, item_id, timestamp, occurrence FROM unnest(%s::text[], %s::text[], "
            "%s::bigint[], %s::bigint[]) WITH ORDINALITY "
            "AS n (user_id, item_id, timestamp, occurrence, number) "
            "ORDER BY number ON CONFLICT DO NOTHING",
            [list(column) for column in columns],
        )
        return cursor.rowcount

    def _counts(self, cursor: Cursor, users: Sequence[str]) -> dict[tuple[str, str], int]:
        cursor.execute(
            "SELECT user_id, item_id, count(*) FROM events WHERE user_id = ANY(%s) "
            "GROUP BY user_id, item_id",
            (list(users),),
        )
        return {(user, item): count for user, item, count in cursor.fetchall()}

    def _forget_untimed(self, cursor: Cursor, rows: Sequence[Event]) -> None:
        cursor.execute(
            "DELETE FROM events USING unnest(%s::text[], %s::text[]) AS n (user_id, item_id) "
            "WHERE events.user_id = n.user_id AND events.item_id = n.item_id "
            f"AND timestamp = {UNKNOWN_TIME}",
            ([e.user_id for e in rows], [e.item_id for e in rows]),
        )

    def _erasures(self, cursor: Cursor, keys: Sequence[str]) -> dict[str, int]:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", (_ERASURES_LOCK,))
        cursor.execute(
            "SELECT user_key, until FROM erasures WHERE user_key = ANY(%s)", (list(keys),)
        )
        return dict(cursor.fetchall())

    def _lock_erasures(self, cursor: Cursor) -> None:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_ERASURES_LOCK,))

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

    def check(self) -> None:
        """See `Store`. Reads every row and looks for indexes that PostgreSQL has marked as invalid.

        If the cluster has data checksums, a damaged page of a table is an error.
        """

        def work(cursor: Cursor) -> list[str]:
            cursor.execute("SET LOCAL enable_indexscan = off")
            cursor.execute("SET LOCAL enable_indexonlyscan = off")
            for table in TABLES:
                cursor.execute(f"SELECT coalesce(sum(length(t::text)), 0) FROM {table} t")
            cursor.execute(
                "SELECT indexrelid::regclass::text FROM pg_index "
                "WHERE NOT indisvalid AND indrelid = ANY(%s::text[]::regclass[])",
                (list(TABLES),),
            )
            return [row[0] for row in cursor.fetchall()]

        invalid = self._read(work)
        if invalid:
            raise StoreError(f"{self.where}: invalid indexes: {', '.join(invalid)}; REINDEX them")

    def close(self) -> None:
        """See `Store`."""
        self._readers.close()
        self._writers.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._error_types as error:
            raise StoreError(f"{self.where}: {self._url.clean(error)}") from None


def _configure(connection: Any) -> None:
    connection.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT_S}s'")
    connection.commit()
