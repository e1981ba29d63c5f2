"""Redis alone: older layouts, damage."""

from __future__ import annotations

from typing import Any

import pytest

from seqloom.core.errors import ArtefactError, StoreError
from seqloom.serving.store import open_store
from seqloom.serving.store.base import UNKNOWN_TIME, Appended, Event

redis = pytest.importorskip("redis")


@pytest.fixture
def client(redis_url: str) -> Any:
    client = redis.Redis.from_url(f"{redis_url.rsplit('/', 1)[0]}/14")
    client.flushdb()
    client.url = f"{redis_url.rsplit('/', 1)[0]}/14"
    return client


def test_an_older_store_keeps_its_events_once_each(client: Any) -> None:
    client.set("seqloom:schema", 1)
    client.zadd("seqloom:users", {"u": 0, "w": 0})
    client.zadd("seqloom:u:u", {f"-{0:019d}:a": 7, f"{1:020d}:b": 7, f"{2:020d}:a": 7})
    client.zadd("seqloom:u:w", {f"-{n:019d}:{i}": UNKNOWN_TIME for n, i in enumerate("aba")})
    client.set("seqloom:seq", 2)
    store = open_store(client.url)
    assert store.histories(["u", "w"], 9) == {"u": ["a", "b"], "w": ["a", "b", "a"]}
    assert store.append([Event("u", "a", 7)]) == Appended(0)
    assert client.get("seqloom:schema") == b"2"
    store.check()
    store.close()


def test_a_newer_layout_is_refused(client: Any) -> None:
    client.set("seqloom:schema", 99)
    with pytest.raises(ArtefactError, match="layout version 99"):
        open_store(client.url)


@pytest.mark.parametrize("damage", ["events gone", "user gone", "odd member"])
def test_the_check_reports_damage(client: Any, damage: str) -> None:
    store = open_store(client.url)
    store.append([Event("u", "a", 7), Event("v", "a", 7)])
    store.check()
    if damage == "events gone":
        client.delete("seqloom:u:u")
    elif damage == "user gone":
        client.zrem("seqloom:users", "u")
    else:
        client.zadd("seqloom:u:u", {"odd": 3})
    with pytest.raises(StoreError, match="events of 1 users are incomplete"):
        store.check()
    store.close()
