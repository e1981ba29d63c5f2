"""The default store: one file, no server, no set-up.

Write-ahead logging with synchronous=FULL: a transaction that has returned survives the end of the
process and of the machine. All writes go through one thread, which commits what is waiting in one
transaction: many writers share the cost of one flush to disk.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from seqloom.core.errors import StoreError
from seqloom.serving.store.migrations import steps
from seqloom.serving.store.sql import Cursor, SqlStore

T = TypeVar("T")
_TOGETHER = 256
_Job = tuple[Callable[[Cursor], Any], "Future[Any]"]


class SqliteStore(SqlStore):
    """See the module. `path` is made where it does not exist.

    Raises:
        StoreError: the file cannot be opened or is no database.
        ArtefactError: the file's schema is newer than this seqloom.
    """

    name = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            self._migrate()
            self._file = _identity(path)
        self._thread = threading.Thread(target=self._write_all, name="seqloom-sqlite", daemon=True)
        self._thread.start()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=30, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        return connection

    def _migrate(self) -> None:
        connection = self._writer
        connection.execute("BEGIN IMMEDIATE")
        try:
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            for version, statements in steps("sqlite", found, str(self.path)):
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
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._connect()
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
        """The writer's thread: take what waits, commit it together, answer."""
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
        """See `Store`. The log is emptied too, so that the file no longer holds the bytes."""
        erased = super().erase(user_id)
        self._read(lambda cursor: cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        return erased

    def ping(self) -> None:
        """See `Store`. A file that was taken away is no store, though open connections still read it."""
        with self._errors():
            if _identity(self.path) != self._file:
                raise StoreError(
                    f"{self.path} was replaced by another file; start the server again"
                )
            self._read(
                lambda cursor: cursor.execute("SELECT count(*) FROM sqlite_master").fetchone()
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

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"SQLite store {self.path}: {error}") from error


def _identity(path: Path) -> tuple[int, int]:
    """Device and number of the file that is at `path` now."""
    found = os.stat(path)
    return found.st_dev, found.st_ino
