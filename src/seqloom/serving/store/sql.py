"""The common part of the SQL stores: all statements except those that depend on the dialect."""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from seqloom.serving.store.base import (
    UNKNOWN_TIME,
    Appended,
    Event,
    LiveItem,
    Receipt,
    TokenRecord,
)

T = TypeVar("T")


class Cursor(Protocol):
    """What sqlite3 and psycopg cursors have in common."""

    @property
    def rowcount(self) -> int: ...

    def execute(self, statement: str, values: Any = ...) -> Any: ...
    def executemany(self, statement: str, values: Any) -> Any: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class SqlStore(ABC):
    """A store in a relational database. Statements are written with `?`."""

    name: str
    where: str

    @abstractmethod
    def _write(self, work: Callable[[Cursor], T]) -> T:
        """Runs `work` in its own transaction; when it returns, the changes are on disk."""

    @abstractmethod
    def _read(self, work: Callable[[Cursor], T]) -> T:
        """Runs `work`, which only reads."""

    def _sql(self, statement: str) -> str:
        """Returns the statement in the dialect's syntax."""
        return statement

    @abstractmethod
    def _insert(self, cursor: Cursor, rows: Sequence[Event]) -> int:
        """Inserts the new events in their order; returns their number."""

    @abstractmethod
    def _counts(self, cursor: Cursor, users: Sequence[str]) -> dict[tuple[str, str], int]:
        """Counts the events of each of `users` and each item."""

    @abstractmethod
    def _forget_untimed(self, cursor: Cursor, rows: Sequence[Event]) -> None:
        """Deletes events without a time that have the user and item of one of `rows`."""

    @abstractmethod
    def _erasures(self, cursor: Cursor, keys: Sequence[str]) -> dict[str, int]:
        """Returns the times of erasure of those of `keys` that have one.

        Erasures wait until the end of the transaction.
        """

    @abstractmethod
    def _lock_erasures(self, cursor: Cursor) -> None:
        """Waits for transactions that have read the erasures, and blocks new ones."""

    def append(self, events: Sequence[Event], receipt: Receipt | None = None) -> Appended:
        """See `Store`."""

        def work(cursor: Cursor) -> Appended:
            if receipt is None:
                return Appended(self._insert(cursor, events))
            values = (receipt.key, receipt.fingerprint, receipt.reply, int(time.time()))
            cursor.execute(
                self._sql(
                    "INSERT INTO receipts (key, fingerprint, reply, created) VALUES (?, ?, ?, ?) "
                    "ON CONFLICT DO NOTHING"
                ),
                values,
            )
            if cursor.rowcount == 0:
                cursor.execute(
                    self._sql(
                        "SELECT key, fingerprint, reply, new_events FROM receipts WHERE key = ?"
                    ),
                    (receipt.key,),
                )
                *earlier, new = cursor.fetchone()
                return Appended(len(events) if new is None else new, Receipt(*earlier))
            new = self._insert(cursor, events)
            cursor.execute(
                self._sql("UPDATE receipts SET new_events = ? WHERE key = ?"), (new, receipt.key)
            )
            return Appended(new)

        return self._write(work)

    def histories(self, users: Sequence[str], limit: int) -> dict[str, list[str]]:
        """See `Store`."""

        def work(cursor: Cursor) -> dict[str, list[str]]:
            histories: dict[str, list[str]] = {}
            for user in users:
                cursor.execute(
                    self._sql(
                        "SELECT item_id FROM events WHERE user_id = ? "
                        "ORDER BY timestamp DESC, seq DESC LIMIT ?"
                    ),
                    (user, limit),
                )
                rows = cursor.fetchall()
                if rows:
                    histories[user] = [row[0] for row in reversed(rows)]
            return histories

        return self._read(work)

    def export(self, user_id: str) -> list[Event]:
        """See `Store`."""

        def work(cursor: Cursor) -> list[Event]:
            cursor.execute(
                self._sql(
                    "SELECT user_id, item_id, timestamp FROM events WHERE user_id = ? "
                    "ORDER BY timestamp, seq"
                ),
                (user_id,),
            )
            return [Event(*row) for row in cursor.fetchall()]

        return self._read(work)

    def erase(self, user_id: str) -> int:
        """See `Store`."""

        def work(cursor: Cursor) -> int:
            self._lock_erasures(cursor)
            cursor.execute(
                self._sql("SELECT max(timestamp) FROM events WHERE user_id = ?"), (user_id,)
            )
            (latest,) = cursor.fetchone()
            until = max(int(time.time()), latest or 0)
            cursor.execute(
                self._sql(
                    "INSERT INTO erasures VALUES (?, ?) "
                    "ON CONFLICT (user_key) DO UPDATE SET until = excluded.until"
                ),
                (_user_key(user_id), until),
            )
            cursor.execute(self._sql("DELETE FROM events WHERE user_id = ?"), (user_id,))
            return cursor.rowcount

        return self._write(work)

    def find_users(self, prefix: str, limit: int) -> list[str]:
        """See `Store`."""

        def work(cursor: Cursor) -> list[str]:
            cursor.execute(
                self._sql(
                    "SELECT DISTINCT user_id FROM events WHERE user_id >= ? AND user_id < ? "
                    "ORDER BY user_id LIMIT ?"
                ),
                (prefix, prefix + chr(0x10FFFF), limit),
            )
            return [row[0] for row in cursor.fetchall()]

        return self._read(work)

    def imported(self, source: str) -> bool:
        """See `Store`."""

        def work(cursor: Cursor) -> bool:
            cursor.execute(self._sql("SELECT 1 FROM imports WHERE source = ?"), (source,))
            return cursor.fetchone() is not None

        return self._read(work)

    def import_events(self, source: str, chunks: Iterable[Sequence[Event]]) -> int:
        """See `Store`."""
        if self.imported(source):
            return 0
        count = sum(self._write(partial(self._import_chunk, chunk)) for chunk in chunks)
        values = (source, int(time.time()))
        self._write(
            lambda cursor: cursor.execute(
                self._sql("INSERT INTO imports VALUES (?, ?) ON CONFLICT DO NOTHING"), values
            )
        )
        return count

    def _import_chunk(self, chunk: Sequence[Event], cursor: Cursor) -> int:
        keys = {user: _user_key(user) for user in {event.user_id for event in chunk}}
        erased = self._erasures(cursor, list(keys.values()))
        kept = [e for e in chunk if e.timestamp > erased.get(keys[e.user_id], UNKNOWN_TIME - 1)]
        timed = [e for e in kept if e.timestamp != UNKNOWN_TIME]
        self._forget_untimed(cursor, timed)
        new = self._insert(cursor, timed)
        if len(timed) < len(kept):
            there = self._counts(cursor, list(keys))
            untimed = [e for e in kept if e.timestamp == UNKNOWN_TIME]
            missing = [e for e in untimed if e.occurrence >= there.get((e.user_id, e.item_id), 0)]
            new += self._insert(cursor, missing)
        return new

    def lineage(self) -> str | None:
        """See `Store`."""

        def work(cursor: Cursor) -> str | None:
            cursor.execute("SELECT value FROM lineage WHERE name = 'data sets'")
            row = cursor.fetchone()
            return row[0] if row else None

        return self._read(work)

    def set_lineage(self, text: str, expected: str | None) -> bool:
        """See `Store`."""

        def work(cursor: Cursor) -> bool:
            if expected is None:
                cursor.execute(
                    self._sql("INSERT INTO lineage VALUES ('data sets', ?) ON CONFLICT DO NOTHING"),
                    (text,),
                )
            else:
                cursor.execute(
                    self._sql(
                        "UPDATE lineage SET value = ? WHERE name = 'data sets' AND value = ?"
                    ),
                    (text, expected),
                )
            return cursor.rowcount > 0

        return self._write(work)

    def put_item(self, item: LiveItem) -> int:
        """See `Store`."""

        def work(cursor: Cursor) -> int:
            version = self._count(cursor, "catalogue")
            cursor.execute(
                self._sql(
                    "INSERT INTO catalogue VALUES (?, ?, ?, ?) ON CONFLICT (item_id) DO UPDATE SET "
                    "version = excluded.version, removed = excluded.removed, "
                    "attributes = excluded.attributes"
                ),
                (item.item_id, version, int(item.removed), json.dumps(item.attributes)),
            )
            cursor.execute(
                self._sql("DELETE FROM catalogue_vectors WHERE item_id = ?"), (item.item_id,)
            )
            rows = [(item.item_id, key, vector) for key, vector in item.vectors.items()]
            if rows:
                cursor.executemany(
                    self._sql("INSERT INTO catalogue_vectors VALUES (?, ?, ?)"), rows
                )
            return version

        return self._write(work)

    def items_since(self, version: int) -> list[LiveItem]:
        """See `Store`."""

        def work(cursor: Cursor) -> list[LiveItem]:
            cursor.execute(
                self._sql(
                    "SELECT item_id, version, removed, attributes FROM catalogue "
                    "WHERE version > ? ORDER BY version"
                ),
                (version,),
            )
            rows = cursor.fetchall()
            if not rows:
                return []
            cursor.execute(
                self._sql(
                    "SELECT v.item_id, v.encoder, v.vector FROM catalogue_vectors v "
                    "JOIN catalogue c ON c.item_id = v.item_id WHERE c.version > ?"
                ),
                (version,),
            )
            vectors: dict[str, dict[str, bytes]] = {}
            for item_id, encoder, vector in cursor.fetchall():
                vectors.setdefault(item_id, {})[encoder] = bytes(vector)
            return [
                LiveItem(item_id, json.loads(text), bool(removed), vectors.get(item_id, {}), at)
                for item_id, at, removed, text in rows
            ]

        return self._read(work)

    def announce_reload(self) -> int:
        """See `Store`."""
        return self._write(lambda cursor: self._count(cursor, "reloads"))

    def reloads(self) -> int:
        """See `Store`."""

        def work(cursor: Cursor) -> int:
            cursor.execute("SELECT value FROM counters WHERE name = 'reloads'")
            return int(cursor.fetchone()[0])

        return self._read(work)

    def _count(self, cursor: Cursor, name: str) -> int:
        """Increments a counter. Its row is locked until the commit, so numbers become visible in order."""
        cursor.execute(self._sql("UPDATE counters SET value = value + 1 WHERE name = ?"), (name,))
        cursor.execute(self._sql("SELECT value FROM counters WHERE name = ?"), (name,))
        return int(cursor.fetchone()[0])

    def put_token(self, token: TokenRecord) -> None:
        """See `Store`."""
        values = (
            token.token_id, token.name, token.secret_sha256, " ".join(token.scopes),
            token.created, token.expires, token.rate,
        )  # fmt: skip
        self._write(
            lambda cursor: cursor.execute(
                self._sql("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?)"), values
            )
        )

    def tokens(self) -> list[TokenRecord]:
        """See `Store`."""

        def work(cursor: Cursor) -> list[TokenRecord]:
            cursor.execute(
                "SELECT token_id, name, secret_sha256, scopes, created, expires, rate "
                "FROM tokens ORDER BY created, token_id"
            )
            return [
                TokenRecord(key, name, secret, tuple(scopes.split()), created, expires, rate)
                for key, name, secret, scopes, created, expires, rate in cursor.fetchall()
            ]

        return self._read(work)

    def revoke_token(self, token_id: str) -> bool:
        """See `Store`."""

        def work(cursor: Cursor) -> bool:
            cursor.execute(self._sql("DELETE FROM tokens WHERE token_id = ?"), (token_id,))
            return cursor.rowcount > 0

        return self._write(work)

    def ping(self) -> None:
        """See `Store`."""
        self._read(lambda cursor: cursor.execute("SELECT 1"))

    def probe(self) -> None:
        """See `Store`."""
        # A new value each time: SQLite does not write an unchanged page.
        self._write(lambda cursor: self._count(cursor, "probe"))

    def purge(self, before: int) -> int:
        """See `Store`."""

        def work(cursor: Cursor) -> int:
            cursor.execute(self._sql("DELETE FROM receipts WHERE created < ?"), (before,))
            return cursor.rowcount

        return self._write(work)


def _user_key(user_id: str) -> str:
    """Returns the key of an erasure: a hash, because the id itself must be erased."""
    return hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()
