"""Stores of every kind, on servers that run for the session."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from servers import postgres_server, redis_server  # noqa: E402

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with redis_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def store_url(request, tmp_path) -> str:
    """The URL of an empty store of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store' / 'history.db'}"
    if request.param == "redis":
        return f"{request.getfixturevalue('redis_url').rsplit('/', 1)[0]}/{next(_NUMBERS) % 16}"
    import psycopg

    url = request.getfixturevalue("postgres_url")
    name = f"store{next(_NUMBERS)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{url.rsplit('/', 1)[0]}/{name}"


@pytest.fixture
def opened(store_url) -> Iterator[Callable]:
    """Open the same store, as often as one likes; all are closed at the end."""
    from seqloom.serving.store import open_store

    stores = []
    if store_url.startswith("redis"):
        import redis

        redis.Redis.from_url(store_url).flushdb()

    def again():
        stores.append(open_store(store_url))
        return stores[-1]

    yield again
    for each in stores:
        each.close()


@pytest.fixture
def store(opened):
    """An empty store of each kind."""
    return opened()
