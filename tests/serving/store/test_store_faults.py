"""Attacks on a store while it is served: files taken away, locks held, no room left, damaged pages."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from seqloom.core.errors import StoreError
from seqloom.data.store import Dataset
from seqloom.serving.config import EngineConfig, ServerConfig
from seqloom.serving.engine.engine import Engine
from seqloom.serving.http.app import build_app
from seqloom.serving.http.metrics import Metrics
from seqloom.serving.store import open_store
from seqloom.serving.store.base import Appended, Event
from seqloom.serving.store.sqlite import SqliteStore

PATIENCE_S = 2.5


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks are waited for less long."""
    monkeypatch.setattr("seqloom.serving.store.sqlite._WRITE_PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr("seqloom.serving.store.postgres._LOCK_TIMEOUT_S", 2)


@pytest.fixture
def sqlite_store(tmp_path: Path, impatient: Any) -> Iterator[SqliteStore]:
    (tmp_path / "folder").mkdir()
    store = SqliteStore(tmp_path / "folder" / "s.db")
    store.append([Event("u", "a", 1)])
    yield store
    store.close()


def _refuses(store: SqliteStore) -> None:
    for call in (
        lambda: store.append([Event("u", "b", 2)]),
        lambda: store.erase("u"),
        lambda: store.histories(["u"], 9),
        lambda: store.export("u"),
        store.ping,
        store.probe,
    ):
        with pytest.raises(StoreError):
            call()


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
@pytest.mark.parametrize("how", ["deleted", "copied", "emptied"])
def test_a_file_that_is_not_the_opened_one_acknowledges_nothing(
    sqlite_store: SqliteStore, end: str, how: str
) -> None:
    file = sqlite_store.path.with_name(f"s.db{end}")
    copy = file.with_name("copy")
    shutil.copyfile(file, copy)
    file.unlink()
    if how == "copied":
        copy.rename(file)
    elif how == "emptied":
        file.touch()
    _refuses(sqlite_store)
    with pytest.raises(
        StoreError, match="is gone" if how == "deleted" else "is gone or empty|was replaced"
    ):
        sqlite_store.ping()


def test_a_file_that_is_cut_to_nothing_in_place_acknowledges_nothing(
    sqlite_store: SqliteStore,
) -> None:
    os.truncate(sqlite_store.path, 0)
    _refuses(sqlite_store)


def test_a_renamed_folder_acknowledges_nothing_until_it_is_back(sqlite_store: SqliteStore) -> None:
    folder = sqlite_store.path.parent
    folder.rename(folder.with_name("away"))
    _refuses(sqlite_store)
    folder.mkdir()
    _refuses(sqlite_store)
    folder.rmdir()
    folder.with_name("away").rename(folder)
    assert sqlite_store.append([Event("u", "c", 3)]) == Appended(1)
    assert sqlite_store.histories(["u"], 9) == {"u": ["a", "c"]}
    sqlite_store.probe()


def test_a_link_that_names_another_file_is_another_store(tmp_path: Path) -> None:
    link, folder = tmp_path / "s.db", tmp_path / "real"
    folder.mkdir()
    link.symlink_to(folder / "one.db")
    store = SqliteStore(link)
    store.append([Event("u", "a", 1)])
    SqliteStore(folder / "two.db").close()
    link.unlink()
    link.symlink_to(folder / "two.db")
    _refuses(store)
    store.close()


def test_a_file_that_goes_during_the_write_is_not_acknowledged(sqlite_store: SqliteStore) -> None:
    def work(cursor: Any) -> None:
        sqlite_store._insert(cursor, [Event("u", "b", 2)])
        sqlite_store.path.unlink()

    with pytest.raises(StoreError, match="is gone"):
        sqlite_store._write(work)


def test_the_working_folder_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///s.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert store.append([Event("u", "a", 1)]) == Appended(1)
    store.close()
    assert (tmp_path / "s.db").exists()


@pytest.fixture(scope="module")
def counting(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that needs no training."""
    from seqloom.pipelines.train.train import train

    out = tmp_path_factory.mktemp("counting") / "popularity"
    train(dataset, "popularity", out=out, device="cpu")
    return out


@contextlib.contextmanager
def serving(store: SqliteStore, run: Path) -> Iterator[TestClient]:
    metrics = Metrics()
    engine = Engine({"popularity": run}, store, EngineConfig(refresh_s=60), observer=metrics)
    app = build_app(ServerConfig(auth=False), engine, store, metrics)
    try:
        with TestClient(app, base_url="http://localhost") as client:
            client.get("/readyz")
            yield client
    finally:
        engine.close()


def _post(client: TestClient, number: int) -> Any:
    event = {"user_id": "u", "item_id": "i1", "timestamp": 1_600_000_000 + number}
    return client.post("/v1/events", json={"events": [event]})


def _failed_writes(client: TestClient) -> float:
    name = 'seqloom_store_errors_total{operation="writing events"}'
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@contextlib.contextmanager
def _held_lock(store: Any) -> Any:
    """No other connection can write; reading is free."""
    other: Any
    if store.name == "sqlite":
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
    else:
        import psycopg

        other = psycopg.connect(store._url.url)
        other.execute("LOCK TABLE events, counters IN EXCLUSIVE MODE")
    yield
    other.rollback()
    other.close()


@pytest.fixture
def lockable(request: pytest.FixtureRequest, opened: Callable[..., Any], impatient: Any) -> Any:
    store = opened()
    if store.name == "redis":
        pytest.skip("Redis runs one command at a time and has no locks")
    return store


def test_a_held_lock_stalls_no_read_and_fails_writes_soon(lockable: Any, counting: Path) -> None:
    with serving(lockable, counting) as client, ThreadPoolExecutor(24) as pool:
        assert _post(client, 0).status_code == 200
        with _held_lock(lockable):
            posts = [pool.submit(_post, client, n) for n in range(1, 21)]
            time.sleep(0.2)
            for path in ("/v1/users/u", "/v1/users?prefix=u", "/healthz"):
                assert client.get(path).status_code == 200
            user = {"user_id": "u", "k": 1}
            assert client.post("/v1/recommend", json=user).json()["history_length"] == 1
            assert not any(post.done() for post in posts)  # no read has waited for one
            replies = [post.result(30) for post in posts]
            assert {(r.status_code, r.json()["type"]) for r in replies} == {
                (503, "urn:seqloom:problem:store")
            }
            assert all(int(r.headers["retry-after"]) > 0 for r in replies)
            assert _failed_writes(client) == 20
            time.sleep(1.1)
            assert client.get("/readyz").status_code == 503
        time.sleep(1.1)
        assert client.get("/readyz").status_code == 200
        assert _post(client, 1).status_code == 200
    assert len(lockable.export("u")) == 2


def test_a_deleted_store_acknowledges_no_post(sqlite_store: SqliteStore, counting: Path) -> None:
    with serving(sqlite_store, counting) as client:
        assert _post(client, 0).status_code == 200
        sqlite_store.path.unlink()
        assert {_post(client, n).status_code for n in range(1, 51)} == {503}
        assert _failed_writes(client) == 50
        assert client.get("/v1/users/u").status_code == 503
        assert client.get("/readyz").status_code == 503
        assert client.post("/v1/recommend", json={"history": ["i1"]}).status_code == 200


@contextlib.contextmanager
def _full_disk(largest: int) -> Any:
    """No file of this process may grow beyond `largest` bytes: what a full disk does to a log."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_not_ready_until_there_is_room(
    sqlite_store: SqliteStore, counting: Path
) -> None:
    log = sqlite_store.path.with_name("s.db-wal")
    with serving(sqlite_store, counting) as client:
        assert _post(client, 0).status_code == 200
        with _full_disk(os.path.getsize(log)):
            time.sleep(1.1)
            statuses = [_post(client, n).status_code for n in range(1, 4)]
            refused = client.get("/readyz")
            read = client.get("/v1/users/u").status_code
            failed = _failed_writes(client)
        assert statuses == [503] * 3
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:seqloom:problem:store")
        assert (read, failed) == (200, 3)
        time.sleep(1.1)
        assert client.get("/readyz").status_code == 200
        assert _post(client, 9).status_code == 200
        history = client.get("/v1/users/u").json()["history"]
        assert [event["timestamp"] for event in history] == [1, 1_600_000_000, 1_600_000_009]
    sqlite_store.check()


def test_a_full_redis_takes_no_write_until_there_is_room(redis_url: str) -> None:
    import redis

    url = f"{redis_url.rsplit('/', 1)[0]}/13"
    client = redis.Redis.from_url(url)
    store = open_store(url)
    store.append([Event("u", "a", 1)])
    client.config_set("maxmemory", "1")
    try:
        for call in (store.probe, lambda: store.append([Event("u", "b", 2)])):
            with pytest.raises(StoreError):
                call()
        store.ping()
        assert store.histories(["u"], 9) == {"u": ["a"]}
    finally:
        client.config_set("maxmemory", "0")
    store.probe()
    assert store.append([Event("u", "b", 2)]) == Appended(1)
    store.close()


def test_reads_do_not_wait_for_a_write_under_way(sqlite_store: SqliteStore) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def slow(cursor: Any) -> None:
        begun.set()
        assert may_end.wait(10)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(sqlite_store._write, slow)
        assert begun.wait(10)
        assert sqlite_store.histories(["u"], 9) == {"u": ["a"]}
        may_end.set()
        running.result()


def test_the_check_finds_a_damaged_page(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    store = SqliteStore(file)
    store.append([Event(f"u{n}", f"i{n}", n) for n in range(3000)])
    store.check()
    store.close()
    with file.open("r+b") as damaged:
        damaged.seek(os.path.getsize(file) // 2 // 4096 * 4096 + 8)
        damaged.write(b"\xff" * 400)
    store = SqliteStore(file)
    with pytest.raises(StoreError, match="damaged"):
        store.check()
    store.close()


def test_a_server_does_not_start_on_a_damaged_store_when_it_is_configured_to_check(
    tmp_path: Path, counting: Path
) -> None:
    from seqloom.serving.server import Server

    url = f"sqlite:///{tmp_path / 's.db'}"
    Server({"a": counting}, ServerConfig(port=0, store=url, check_store=True)).close()
    file = tmp_path / "s.db"
    with sqlite3.connect(file) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'events_once'"
        ).fetchone()
    connection.close()
    with file.open("r+b") as damaged:
        damaged.seek((page - 1) * 4096)
        damaged.write(b"\xff" * 4096)
    with pytest.raises(StoreError, match=r"s\.db"):
        Server({"a": counting}, ServerConfig(port=0, store=url, check_store=True))
