"""SQLite alone: durability settings, migrations, group commit, damaged files."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from seqloom.core.errors import ArtefactError, StoreError
from seqloom.serving.store.base import UNKNOWN_TIME, Appended, Event, Receipt
from seqloom.serving.store.migrations import LATEST, MIGRATIONS, steps
from seqloom.serving.store.sqlite import SqliteStore


def test_an_acknowledged_event_is_flushed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    store.close()


def test_an_older_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    connection = sqlite3.connect(file)
    for statement in dict(steps("sqlite", 0, "here"))[1]:
        connection.execute(statement)
    connection.execute("INSERT INTO events (user_id, item_id, timestamp) VALUES ('u', 'i', 7)")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    store = SqliteStore(file)
    assert store.export("u") == [Event("u", "i", 7)]
    assert store.tokens() == []
    assert store._writer.execute("PRAGMA user_version").fetchone() == (LATEST,)
    store.close()


def test_an_older_store_keeps_its_events_once_each(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    connection = sqlite3.connect(file)
    for _, statements in steps("sqlite", 0, "here")[:4]:
        for statement in statements:
            connection.execute(statement)
    rows = [("u", "a", 7), ("u", "b", 7), ("u", "a", 7), ("v", "a", 7), ("u", "a", 8)]
    rows += [("w", item, UNKNOWN_TIME) for item in "aba"]
    connection.executemany(
        "INSERT INTO events (user_id, item_id, timestamp) VALUES (?, ?, ?)", rows
    )
    connection.execute("INSERT INTO receipts VALUES ('k', 'p', 'r', 1)")
    connection.execute("PRAGMA user_version = 4")
    connection.commit()
    connection.close()
    store = SqliteStore(file)
    assert store.histories(["u", "v", "w"], 9) == {
        "u": ["a", "b", "a"],
        "v": ["a"],
        "w": ["a", "b", "a"],
    }
    assert [event.occurrence for event in _rows(store, "w")] == [0, 0, 1]
    assert store.append([Event("u", "a", 7)], Receipt("k", "p", "r")) == Appended(
        1, Receipt("k", "p", "r")
    )
    assert store.append([Event("u", "a", 7)]) == Appended(0)
    store.check()
    store.close()


def _rows(store: SqliteStore, user: str) -> list[Event]:
    return store._read(
        lambda cursor: [
            Event(*row)
            for row in cursor.execute(
                "SELECT user_id, item_id, timestamp, occurrence FROM events WHERE user_id = ? "
                "ORDER BY seq",
                (user,),
            )
        ]
    )


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ArtefactError, match="schema version 99"):
        SqliteStore(file)


def test_versions_have_no_gap() -> None:
    assert [migration.version for migration in MIGRATIONS] == list(range(1, LATEST + 1))


def test_one_fault_in_a_common_transaction_spares_the_others(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    from concurrent.futures import Future

    good: Future[Any] = Future()
    bad: Future[Any] = Future()
    last: Future[Any] = Future()
    store._commit(
        [
            (lambda c: c.execute("INSERT INTO imports VALUES ('a', 1)"), good),
            (lambda c: c.execute("INSERT INTO nowhere VALUES (1)"), bad),
            (lambda c: c.execute("INSERT INTO imports VALUES ('b', 1)"), last),
        ]
    )
    good.result(), last.result()
    assert isinstance(bad.exception(), sqlite3.Error)
    assert store.imported("a")
    assert store.imported("b")
    store.close()


def test_erased_bytes_leave_the_file(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    store.append([Event("u", "a-very-secret-item", 1)], Receipt("k", "p", "r"))
    store.erase("u")
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    store.close()
    assert b"a-very-secret-item" not in kept


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    file.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(StoreError, match=r"s\.db"):
        SqliteStore(file)


def test_a_closed_store_is_an_error(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.append([Event("u", "i", 1)])
