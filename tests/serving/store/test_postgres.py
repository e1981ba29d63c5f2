"""PostgreSQL alone: faults of the connection, and several servers starting at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from seqloom.core.errors import StoreError
from seqloom.serving.store import open_store
from seqloom.serving.store.base import UNKNOWN_TIME, Appended, Event
from seqloom.serving.store.migrations import steps
from support.servers import free_port

pytest.importorskip("psycopg")


@pytest.fixture(params=["postgresql"])
def store_url(request: pytest.FixtureRequest, postgres_url: str) -> str:
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS alone")
        connection.execute("CREATE DATABASE alone")
    return f"{postgres_url.rsplit('/', 1)[0]}/alone"


def test_servers_that_start_together_make_one_schema(store_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: open_store(store_url), range(4)))
    stores[0].append([Event("u", "i", 1)])
    assert stores[3].export("u") == [Event("u", "i", 1)]
    for store in stores:
        store.close()


def test_an_older_store_keeps_its_events_once_each(store_url: str) -> None:
    import psycopg

    with psycopg.connect(store_url) as connection:
        connection.execute("CREATE TABLE seqloom_schema (version BIGINT NOT NULL)")
        connection.execute("INSERT INTO seqloom_schema VALUES (4)")
        for _, statements in steps("postgresql", 0, "here")[:4]:
            for statement in statements:
                connection.execute(statement)
        rows = [("u", "a", 7), ("u", "b", 7), ("u", "a", 7)]
        rows += [("w", item, UNKNOWN_TIME) for item in "aba"]
        connection.cursor().executemany(
            "INSERT INTO events (user_id, item_id, timestamp) VALUES (%s, %s, %s)", rows
        )
    store = open_store(store_url)
    assert store.histories(["u", "w"], 9) == {"u": ["a", "b"], "w": ["a", "b", "a"]}
    assert store.append([Event("u", "a", 7)]) == Appended(0)
    store.check()
    store.close()


def test_a_connection_that_the_server_closed_is_replaced(store_url: str) -> None:
    import psycopg

    store = open_store(store_url)
    store.append([Event("u", "i", 1)])
    with psycopg.connect(store_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'seqloom' AND datname = 'alone'"
        )
    assert store.export("u") == [Event("u", "i", 1)]
    store.close()


def test_no_password_is_shown() -> None:
    with pytest.raises(StoreError) as error:
        open_store(f"postgresql://u:secret@127.0.0.1:{free_port()}/x")
    assert "secret" not in str(error.value)


def test_an_erasure_waits_for_an_import_that_has_written_the_user(store_url: str) -> None:
    one: Any = open_store(store_url)
    other = open_store(store_url)
    begun, may_end = threading.Event(), threading.Event()

    def chunk(cursor: Any) -> None:
        one._import_chunk([Event("anna", "a", 1)], cursor)
        begun.set()
        assert may_end.wait(20)

    with ThreadPoolExecutor(2) as pool:
        importing = pool.submit(one._write, chunk)
        assert begun.wait(20)
        erasing = pool.submit(other.erase, "anna")
        time.sleep(0.3)
        assert not erasing.done()
        may_end.set()
        importing.result()
        assert erasing.result() == 1
    assert one.export("anna") == []
    one.close()
    other.close()
