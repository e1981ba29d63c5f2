"""Schemas of earlier versions: a store that seqloom 0.1.0 wrote is opened, migrated and kept in use."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from seqloom.core.errors import ArtefactError
from seqloom.serving.store import open_store
from seqloom.serving.store.base import (
    UNKNOWN_TIME,
    Appended,
    Event,
    LiveItem,
    Receipt,
    Store,
    TokenRecord,
)
from seqloom.serving.store.migrations import LATEST, steps

STORED = Path(__file__).resolve().parents[2] / "data" / "stored" / "stores"
ORDER = Receipt("shop:order-7", "f" * 64, '{"appended": 2}')


def restore_sqlite(path: Path) -> str:
    """Returns the URL of a store file made from the dump."""
    connection = sqlite3.connect(path)
    connection.executescript((STORED / "sqlite.sql").read_text(encoding="utf-8"))
    connection.close()
    return f"sqlite:///{path}"


def restore_postgres(server: str) -> str:
    """Returns the URL of a database made from the dump."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS dumped")
        connection.execute("CREATE DATABASE dumped")
    url = f"{server.rsplit('/', 1)[0]}/dumped"
    with psycopg.connect(url) as connection:
        connection.execute((STORED / "postgresql.sql").read_bytes())
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def dumped_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that seqloom 0.1.0 wrote, at its schema version 4."""
    if request.param == "sqlite":
        return restore_sqlite(tmp_path / "dumped.db")
    pytest.importorskip("psycopg")
    return restore_postgres(request.getfixturevalue("postgres_url"))


def test_a_store_of_0_1_0_keeps_all_that_it_holds(dumped_url: str) -> None:
    store = open_store(dumped_url)
    check_histories(store)
    check_the_rest(store)
    store.check()
    store.close()


def check_histories(store: Store) -> None:
    """0.1.0 kept an event twice that came twice; events without a time are distinguished by their number."""
    expected = {
        "anna": ["i1", "i2", "i1", "i5"],
        "ben": ["i3", "i4", "i3"],
        "ünal": ["i;9'\\"],
    }
    assert store.histories(list(expected), 10) == expected
    assert [event.timestamp for event in store.export("ben")] == [UNKNOWN_TIME] * 3
    assert store.imported("data-of-the-first-start")


def check_the_rest(store: Store) -> None:
    """Catalogue, tokens, announced reloads and the receipt of an answered request."""
    vector = np.arange(4, dtype="<f4").tobytes()
    assert store.items_since(0) == [
        LiveItem("n1", {"title": "A new item"}, False, {"hash-24": vector}, 1),
        LiveItem("i4", {"title": "Sold out"}, True, {}, 2),
    ]
    assert store.reloads() == 2
    assert store.tokens() == [
        TokenRecord("t1", "shop", "a" * 64, ("recommend", "events"), 1_600_000_000, None, 12.5),
        TokenRecord("t2", "admin", "b" * 64, ("admin",), 1_600_000_001, 1_900_000_000, None),
    ]
    assert store.append([Event("anna", "other", 1)], ORDER).earlier == ORDER
    assert "other" not in store.histories(["anna"], 10)["anna"]


def test_a_migrated_store_works_on_and_is_opened_again(dumped_url: str) -> None:
    store = open_store(dumped_url)
    assert store.append([Event("anna", "i5", 1_700_000_000)]) == Appended(0)
    assert store.append([Event("anna", "i6", 1_700_000_002)]) == Appended(1)
    again = [Event("ben", item, UNKNOWN_TIME, n) for item, n in (("i3", 0), ("i3", 1), ("i4", 0))]
    assert store.import_events("the-same-log-prepared-again", [again]) == 0
    assert store.put_item(LiveItem("n2", {"title": "Another"})) == 3
    store.close()
    store = open_store(dumped_url)
    assert store.histories(["anna", "ben"], 10) == {
        "anna": ["i1", "i2", "i1", "i5", "i6"],
        "ben": ["i3", "i4", "i3"],
    }
    assert store.erase("anna") == 5
    store.close()


def test_steps_lead_from_a_version_to_the_latest() -> None:
    versions = [version for version, _ in steps("sqlite", 4, "here")]
    assert versions == list(range(5, LATEST + 1))
    assert steps("postgresql", LATEST, "here") == []


def test_a_newer_schema_is_refused() -> None:
    with pytest.raises(ArtefactError, match=f"version {LATEST + 1}.*knows {LATEST}"):
        steps("sqlite", LATEST + 1, "here")
