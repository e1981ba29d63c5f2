"""Two servers of one PostgreSQL or Redis behind nginx: they agree, and one may die."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from benchmarks.clients import USER, Clients

from seqloom.data.store import Dataset
from seqloom.serving.store import open_store
from support.servers import Process, nginx_server

WITHIN_S = 2.0


@dataclass
class Replicas:
    folder: Path
    store: str
    servers: list[Process]
    url: str = ""
    """Of nginx."""

    def start(self, *options: str) -> Process:
        runs = (str(self.folder / "llmesr"), str(self.folder / "other"))
        return Process(self.folder, *runs, "--store", self.store, *options)


@pytest.fixture(scope="module", params=["postgresql", "redis"])
def replicas(
    request: pytest.FixtureRequest, runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replicas]:
    """Two servers that started at once on an empty store, and nginx before them."""
    folder = tmp_path_factory.mktemp("replicas")
    shutil.copytree(runs["llmesr"], folder / "llmesr")
    shutil.copytree(runs["popularity"], folder / "other")
    if request.param == "redis":
        import redis

        url = request.getfixturevalue("redis_url").rsplit("/", 1)[0] + "/12"
        redis.Redis.from_url(url).flushdb()
    else:
        import psycopg

        url = request.getfixturevalue("postgres_url")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE replicas")
        url = f"{url.rsplit('/', 1)[0]}/replicas"
    made = Replicas(folder, url, [])
    made.servers += [made.start(), made.start()]
    try:
        with nginx_server([server.port for server in made.servers]) as made.url:
            yield made
    finally:
        for server in made.servers:
            if server.process.poll() is None:
                server.stop(signal.SIGKILL)


@pytest.fixture
def each(replicas: Replicas) -> Iterator[list[Any]]:
    """A client of each server."""
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(httpx.Client(base_url=s.url)) for s in replicas.servers]


@pytest.fixture
def proxy(replicas: Replicas) -> Iterator[httpx.Client]:
    """A client of nginx."""
    with httpx.Client(base_url=replicas.url) as client:
        yield client


def post(
    client: httpx.Client, path: str, headers: dict[str, str] | None = None, **body: Any
) -> httpx.Response:
    reply = client.post(f"/v1/{path}", json=body, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply


def event(user: str, item: str) -> dict:
    return {"events": [{"user_id": user, "item_id": item}]}


def seconds_until(found: Callable[..., Any]) -> float:
    began = time.monotonic()
    while not found():
        assert time.monotonic() - began < 120, "never"
        time.sleep(0.01)
    return time.monotonic() - began


def test_both_are_queried(replicas: Replicas, each: list[Any], proxy: httpx.Client) -> None:
    for _ in range(20):
        post(proxy, "recommend", user_id="u0")
    for client in each:
        counted = 'seqloom_http_requests_total{method="POST",route="/v1/recommend",status="200"}'
        assert counted in client.get("/metrics").text
    assert proxy.get("/metrics").status_code == 404


def test_histories_were_imported_once(each: list[Any], dataset: Dataset) -> None:
    offsets = dataset.events.offsets
    for client in each:
        kept = client.get("/v1/users/u0").json()["history"]
        assert len(kept) == int(offsets[1] - offsets[0])


def test_an_event_is_seen_by_the_other_immediately(each: list[Any]) -> None:
    for number, (here, there) in enumerate([each, each[::-1]]):
        user = f"fresh{number}"
        before = post(there, "recommend", user_id=user).json()
        assert before["fallback"]
        post(here, "events", **event(user, "i3"))
        after = post(there, "recommend", user_id=user).json()
        assert after["fallback"] is None
        assert "i3" not in [item["item_id"] for item in after["items"]]


def test_an_erased_user_is_forgotten_by_both(each: list[Any]) -> None:
    post(each[0], "events", **event("gone", "i3"))
    assert each[1].delete("/v1/users/gone").json()["erased"] == 1
    assert [client.get("/v1/users/gone").status_code for client in each] == [404, 404]


def test_a_key_is_carried_out_once_by_whoever_gets_it(each: list[Any]) -> None:
    key = {"Idempotency-Key": "one"}
    first = post(each[0], "events", headers=key, **event("keyed", "i3"))
    again = post(each[1], "events", headers=key, **event("keyed", "i3"))
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(each[0].get("/v1/users/keyed").json()["history"]) == 1


def test_live_items_are_seen_by_both_within_two_seconds(
    each: list[Any], proxy: httpx.Client
) -> None:
    requested: dict[str, Any] = {"history": ["i3"], "candidates": ["novel"], "k": 1}

    def offered(client: Any) -> bool:
        return bool(post(client, "recommend", **requested).json()["items"])

    for here, there in (each, each[::-1]):
        body = {"attributes": {"title": "blue thing number 3"}}
        assert here.put("/v1/items/novel", json=body).status_code == 200
        assert offered(here)
        assert seconds_until(lambda there=there: offered(there)) < WITHIN_S
        scores = [post(c, "recommend", **requested).json()["items"][0]["score"] for c in each]
        assert scores[0] == pytest.approx(scores[1], rel=1e-5)
        assert here.delete("/v1/items/novel").status_code == 200
        assert seconds_until(lambda there=there: not offered(there)) < WITHIN_S
    assert proxy.put("/v1/items/novel", json=body).status_code == 200


def test_a_reload_requested_from_one_reaches_both(
    replicas: Replicas, each: list[Any], proxy: httpx.Client, runs: dict[str, Path]
) -> None:
    def served() -> set[str]:
        return {c.get("/v1/models").json()["models"][1]["system"] for c in each}

    old, new = ("popularity", "itemknn")
    assert served() == {old}
    (replicas.folder / "other").rename(replicas.folder / "was")
    shutil.copytree(runs[new], replicas.folder / "other")
    post(proxy, "admin/reload", model="other")
    assert seconds_until(lambda: served() == {new}) < WITHIN_S


def test_a_killed_server_loses_nothing_and_fails_what_it_had_under_way(replicas: Replicas) -> None:
    bare = ["bare"] * 3
    with Clients(replicas.url, [*bare, "keyed", "keyed", "keyed", "list", "list"]) as clients:
        clients.until(20)
        replicas.servers[0].stop(signal.SIGKILL)
        clients.until(20, since=time.monotonic())
    assert clients.failed("keyed") == []
    assert clients.failed("list") == []
    # A client has one request under way. 502: nobody knows whether its event was kept.
    assert len(clients.failed("bare")) <= len(bare)
    assert {each.status for each in clients.failed("bare")} <= {502}
    store = open_store(replicas.store)
    found = store.histories([USER], 1_000_000)[USER]
    store.close()
    assert clients.events(acknowledged=True) <= set(found) <= clients.events(acknowledged=False)
    assert len(found) == len(set(found))


@pytest.mark.slow
def test_a_server_that_comes_back_is_queried_again(replicas: Replicas) -> None:
    first, second = replicas.servers
    port = first.port
    if first.process.poll() is None:
        first.stop(signal.SIGKILL)
    with httpx.Client(base_url=replicas.url, timeout=20) as client:
        first = replicas.servers[0] = replicas.start("--port", str(port))

        def is_asked() -> bool:
            """No request fails while it starts."""
            post(client, "recommend", user_id="u1")
            with contextlib.suppress(httpx.TransportError):
                return 'route="/v1/recommend"' in httpx.get(f"http://127.0.0.1:{port}/metrics").text
            return False

        seconds_until(is_asked)
        second.stop(signal.SIGKILL)
        for _ in range(20):
            post(client, "recommend", user_id="u1")
