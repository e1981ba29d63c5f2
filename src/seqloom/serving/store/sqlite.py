"""The default store: one SQLite file.

Write-ahead logging with synchronous=FULL: a finished transaction survives a crash of the process or the
machine. One thread does all writes and commits waiting ones in one transaction, so many writers share one
flush to disk. Reads use other connections and never wait for a writer.

An open connection keeps reading and writing a file that was deleted, renamed or replaced. So the files'
identities are compared before a read and, before a write is acknowledged, after its commit.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from seqloom.core.errors import StoreError
from seqloom.serving.store.base import UNKNOWN_TIME, Event
from seqloom.serving.store.migrations import steps
from seqloom.serving.store.sql import Cursor, SqlStore

T = TypeVar("T")
_TOGETHER = 256
_READ_PATIENCE_S = 1.0
_WRITE_PATIENCE_S = 3.0
"""How long to wait for a lock of another process. Jobs queued meanwhile may wait twice as long."""
_OPEN_PATIENCE_S = 30.0
"""The same at the start, where another server may change the schema."""
_Job = tuple[Callable[[Cursor], Any], "Future[Any]"]


class SqliteStore(SqlStore):
    """A store in a SQLite file. Creates `path` where it does not exist.

    Raises:
        StoreError: the file cannot be opened or is no database.
        ArtefactError: the file's schema is newer than this seqloom.
    """

    name = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.where = f"SQLite store {self.path}"
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect(_OPEN_PATIENCE_S)
            self._migrate()
            self._writer.execute(f"PRAGMA busy_timeout = {int(1000 * _WRITE_PATIENCE_S)}")
            self._files = _identities(self.path)
        self._thread = threading.Thread(target=self._write_all, name="seqloom-sqlite", daemon=True)
        self._thread.start()

    def _connect(self, patience_s: float) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=patience_s, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        return connection

    def _migrate(self) -> None:
        connection = self._writer
        connection.execute("BEGIN IMMEDIATE")
        try:
            (current,) = connection.execute("PRAGMA user_version").fetchone()
            for version, statements in steps("sqlite", current, str(self.path)):
                for statement in statements:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version}")
        except BaseException:
            connection.execute("ROLLBACK")
            connection.close()
            raise
        connection.execute("COMMIT")

    def _read(self, work: Callable[[Cursor], T]) -> T:
        with self._errors():
            self._check_files()
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._connect(_READ_PATIENCE_S)
                with self._lock:
                    self._readers.append(connection)
            return work(connection.cursor())

    def _write(self, work: Callable[[Cursor], T]) -> T:
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise StoreError(f"the store {self.path} is closed")
            self._jobs.put((work, future))
        with self._errors():
            return future.result()

    def _write_all(self) -> None:
        """Runs the writer's thread: takes the waiting jobs, commits them together, answers."""
        while True:
            job = self._jobs.get()
            if job is None:
                return
            jobs, last = [job], False
            while len(jobs) < _TOGETHER:
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    last = True
                    break
                jobs.append(job)
            self._commit(jobs)
            if last:
                return

    def _commit(self, jobs: list[_Job]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        try:
            self._check_files()
            cursor = self._writer.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            for work, future in jobs:
                cursor.execute("SAVEPOINT one")
                try:
                    done.append((future, work(cursor)))
                except Exception as error:
                    cursor.execute("ROLLBACK TO one")
                    future.set_exception(error)
                cursor.execute("RELEASE one")
            cursor.execute("COMMIT")
            self._check_files()
        except Exception as error:
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            for _, future in jobs:
                if not future.done():
                    future.set_exception(error)
            return
        for future, result in done:
            future.set_result(result)

    def erase(self, user_id: str) -> int:
        """See `Store`. Truncates the log too, so that no file still holds the bytes."""
        erased = super().erase(user_id)
        self._read(lambda cursor: cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        return erased

    def _insert(self, cursor: Cursor, rows: Sequence[Event]) -> int:
        if not rows:
            return 0
        cursor.executemany(
            "INSERT INTO events (user_id, item_id, timestamp, occurrence) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            [(e.user_id, e.item_id, e.timestamp, e.occurrence) for e in rows],
        )
        return cursor.rowcount

    def _counts(self, cursor: Cursor, users: Sequence[str]) -> dict[tuple[str, str], int]:
        cursor.execute(
            "SELECT user_id, item_id, count(*) FROM events "
            "WHERE user_id IN (SELECT value FROM json_each(?)) GROUP BY user_id, item_id",
            (json.dumps(users),),
        )
        return {(user, item): count for user, item, count in cursor.fetchall()}

    def _forget_untimed(self, cursor: Cursor, rows: Sequence[Event]) -> None:
        cursor.executemany(
            f"DELETE FROM events WHERE user_id = ? AND item_id = ? AND timestamp = {UNKNOWN_TIME}",
            [(e.user_id, e.item_id) for e in rows],
        )

    def _erasures(self, cursor: Cursor, keys: Sequence[str]) -> dict[str, int]:
        cursor.execute(
            "SELECT user_key, until FROM erasures WHERE user_key IN (SELECT value FROM json_each(?))",
            (json.dumps(keys),),
        )
        return dict(cursor.fetchall())

    def _lock_erasures(self, cursor: Cursor) -> None:
        """Does nothing: SQLite has one writer at a time."""

    def ping(self) -> None:
        """See `Store`. Fails for a deleted file, which open connections could still read."""
        self._read(lambda cursor: cursor.execute("SELECT count(*) FROM sqlite_master").fetchone())

    def check(self) -> None:
        """See `Store`. Runs SQLite's check of every page, row and index."""
        faults = self._read(
            lambda cursor: [row[0] for row in cursor.execute("PRAGMA integrity_check(5)")]
        )
        if faults != ["ok"]:
            raise StoreError(
                f"{self.where} is damaged: {'; '.join(faults)}; restore it from a backup, "
                "or save what can be read with `sqlite3 FILE .recover`"
            )

    def close(self) -> None:
        """See `Store`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        for connection in (*self._readers, self._writer):
            connection.close()

    def _check_files(self) -> None:
        """Raises where the file or its log is no longer the one that was opened."""
        for name, opened in self._files.items():
            try:
                now: tuple[int, int] | None = _identity(name)
            except FileNotFoundError:
                now = None
            if now != opened:
                what = "is gone or empty" if now is None else "was replaced by another file"
                raise StoreError(
                    f"{name} {what} while it was served: what is written now would be lost; put it "
                    "back, or start the server again"
                )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self.where}: {error}") from error


def _identity(path: Path | str) -> tuple[int, int]:
    """Returns device and inode of the file at `path`.

    Raises:
        FileNotFoundError: the file is missing, or it is a database truncated to zero bytes.
    """
    status = os.stat(path)
    if not status.st_size and not str(path).endswith("-wal"):
        raise FileNotFoundError(errno.ENOENT, "empty", str(path))
    return status.st_dev, status.st_ino


def _identities(path: Path) -> dict[str, tuple[int, int]]:
    """Returns the identities of the file, its write-ahead log and the log's index.

    SQLite keeps the log beside the file, not beside a link to it.
    """
    real = path.resolve()
    names = (str(path), f"{real}-wal", f"{real}-shm")
    return {name: _identity(name) for name in names}
