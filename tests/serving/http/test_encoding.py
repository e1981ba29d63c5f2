"""Bytes that are not UTF-8 are refused before anything is stored; two byte strings are never one id."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from seqloom.serving.config import ServerConfig
from seqloom.serving.engine.engine import Engine
from seqloom.serving.http.app import build_app
from seqloom.serving.http.metrics import Metrics
from seqloom.serving.store.sqlite import SqliteStore

JSON = {"content-type": "application/json"}
ITEM = b'{"attributes": {"title": "red cream"}}'
MARK = "Kowalska77"


@pytest.fixture(scope="module")
def server(
    runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TestClient, SqliteStore]]:
    """A client of a server with an llmesr, which takes new items, and its store."""
    folder = tmp_path_factory.mktemp("encoding")
    store = SqliteStore(folder / "s.db")
    engine = Engine({name: runs[name] for name in ("llmesr", "sasrec")}, store)
    app = build_app(ServerConfig(auth=False), engine, store, Metrics())
    with TestClient(app, base_url="http://localhost") as client:
        yield client, store
    engine.close()
    store.close()


@pytest.fixture
def client(server: tuple[TestClient, SqliteStore]) -> TestClient:
    return server[0]


def stored(store: SqliteStore) -> tuple:
    return store.items_since(0), store.find_users("", 100)


def is_refused(answer: Any, pointer: str, kind: str = "encoding") -> None:
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    reported = answer.json()
    assert reported["type"] == f"urn:seqloom:problem:{kind}"
    assert reported["errors"][0]["pointer"] == pointer
    assert reported["request_id"] == answer.headers["x-request-id"]


BYTES = {
    "Latin-1": "%E9",
    "overlong /": "%C0%AF",
    "surrogate": "%ED%A0%80",
    "beyond Unicode": "%F4%90%80%80",
    "cut short": "%E2%82",
    "alone": "%80",
    "NUL": "%00",
}
PATHS = ["/v1/items/caf{}", "/v1/users/caf{}", "/v1/similar/caf{}", "/v1/models/{}/metrics",
         "/static/{}", "/{}", "/healthz{}", "/readyz/{}", "/metrics/{}", "/docs{}",
         "/v1/recommend{}"]  # fmt: skip
QUERIES = ["/v1/users?prefix={}", "/v1/items?query={}", "/v1/items?model={}", "/healthz?{}",
           "/v1/similar/i5?model={}", "/v1/users/a?x={}=1"]  # fmt: skip


@pytest.mark.parametrize("raw", BYTES.values(), ids=BYTES)
def test_paths_and_queries(server: tuple[TestClient, SqliteStore], raw: Any) -> None:
    client, store = server
    before = stored(store)
    for path, method in itertools.product(PATHS, ("GET", "PUT", "DELETE", "POST")):
        answer = client.request(method, path.format(raw), content=ITEM, headers=JSON)
        is_refused(answer, "path")
    for path in QUERIES:
        is_refused(client.get(path.format(raw)), "query")
    assert stored(store) == before


async def asked(app: Callable[..., Any], headers: list[Any]) -> dict:
    """What the application answers to GET /healthz with these headers: an httpx client re-encodes them."""
    sent = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/healthz", "raw_path": b"/healthz",
             "query_string": b"", "http_version": "1.1", "headers": headers}  # fmt: skip
    await app(scope, None, send)
    return {"status": sent[0]["status"], **json.loads(sent[1]["body"])}


@pytest.mark.parametrize("value", [b"\xe9", b"\xc0\xaf", b"\xed\xa0\x80", b"a\xff"])
def test_header_values(client: TestClient, value: bytes) -> None:
    host = (b"host", b"localhost")
    for name in (b"x-request-id", b"idempotency-key", b"user-agent", b"authorization"):
        reported = asyncio.run(asked(client.app, [host, (name, value)]))
        assert reported["status"] == 400
        assert reported["errors"][0]["pointer"] == f"header/{name.decode()}"
    reported = asyncio.run(asked(client.app, [host, (b"user-agent", "é".encode())]))
    assert reported["status"] == "ok"


@pytest.mark.parametrize("hosts", [0, 2])
def test_one_host_is_needed(client: TestClient, hosts: int) -> None:
    reported = asyncio.run(asked(client.app, [(b"host", b"localhost")] * hosts))
    assert reported["status"] == 400
    assert reported["errors"][0]["pointer"] == "header/host"


BODIES = {
    "Latin-1": b'"\xe9"',
    "overlong": b'"\xc0\xaf"',
    "surrogate bytes": b'"\xed\xa0\x80"',
    "lone surrogate": rb'"\ud800"',
    "lone low surrogate": rb'"\udc00"',
    "two high surrogates": rb'"\ud800\ud800"',
    "NUL byte": b'"a\x00"',
    "not a number": b"NaN",
}


@pytest.mark.parametrize("value", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("charset", ["", "; charset=utf-8"])  # the short way, the usual one
def test_bodies(server: tuple[TestClient, SqliteStore], value: Any, charset: str) -> None:
    client, store = server
    before = stored(store)
    bodies = [
        ("POST", "/v1/recommend", b'{"user_id": %s}'),
        ("POST", "/v1/recommend", b'{"history": [%s]}'),
        ("POST", "/v1/recommend", b'{"history": ["i3"], "model": %s}'),
        ("POST", "/v1/recommend/batch", b'{"requests": [{"user_id": %s}]}'),
        ("POST", "/v1/explain", b'{"user_id": %s}'),
        ("POST", "/v1/events", b'{"events": [{"user_id": "a", "item_id": %s}]}'),
        ("POST", "/v1/events", b'{"events": [{"user_id": %s, "item_id": "i3"}]}'),
        ("PUT", "/v1/items/new", b'{"attributes": {"title": %s}}'),
        ("PUT", "/v1/items/new", b'{"attributes": {%s: "red"}}'),
        ("POST", "/v1/admin/reload", b'{"model": %s}'),
    ]
    headers = {"content-type": f"application/json{charset}"}
    for method, path, body in bodies:
        answer = client.request(method, path, content=body % value, headers=headers)
        is_refused(answer, "body", "bad-json")
    assert stored(store) == before


def test_utf16_is_refused_and_a_mark_of_utf8_is_read(client: TestClient) -> None:
    body = '{"history": ["i3"], "k": 2}'
    for name in ("utf-16", "utf-16-le", "utf-32"):
        answer = client.post("/v1/recommend", content=body.encode(name), headers=JSON)
        is_refused(answer, "body", "bad-json")
    answer = client.post("/v1/recommend", content=body.encode("utf-8-sig"), headers=JSON)
    assert len(answer.json()["items"]) == 2


def test_an_id_is_the_characters_that_were_sent(client: TestClient) -> None:
    """Composed and decomposed é, é read as Latin-1, the replacement character: four items."""
    raws = ["caf%C3%A9", "cafe%CC%81", "caf%C3%83%C2%A9", "caf%EF%BF%BD"]
    for number, raw in enumerate(raws):
        body = {"attributes": {"title": f"red cream {number}"}}
        assert client.put(f"/v1/items/{raw}", json=body).status_code == 200
    for number, raw in enumerate(raws):
        reported = client.get(f"/v1/items/{raw}").json()
        assert reported["attributes"] == {"title": f"red cream {number}"}
    assert client.get("/v1/items/caf%c3%a9").json()["item_id"] == "café"


def test_errors_never_repeat_a_value_that_was_sent(client: TestClient) -> None:
    requests = [
        ("GET", f"/v1/items/{MARK}", None),
        ("DELETE", f"/v1/items/{MARK}", None),
        ("GET", f"/v1/users/{MARK}", None),
        ("GET", f"/v1/similar/{MARK}", None),
        ("GET", f"/v1/similar/i3?model={MARK}", None),
        ("GET", f"/v1/similar/i3?k={MARK}", None),
        ("GET", f"/v1/items?model={MARK}", None),
        ("GET", f"/v1/items?limit={MARK}", None),
        ("GET", f"/v1/models/{MARK}/metrics", None),
        ("GET", f"/{MARK}", None),
        ("GET", f"/static/{MARK}", None),
        ("POST", "/v1/recommend", {"history": ["i3"], "model": MARK}),
        ("POST", "/v1/recommend", {"user_id": MARK, "history": [MARK]}),
        ("POST", "/v1/recommend", {"user_id": MARK * 100}),
        ("POST", "/v1/recommend", {"user_id": "a", "k": MARK}),
        ("POST", "/v1/explain", {"user_id": MARK}),
        ("POST", "/v1/explain", {"history": ["i3"], "item_id": MARK}),
        ("POST", "/v1/events", {"events": [{"user_id": MARK, "item_id": 3}]}),
        ("PUT", "/v1/items/x", {"attributes": {"title": MARK * 3000}}),
        ("POST", "/v1/admin/reload", {"model": MARK}),
    ]
    for method, path, body in requests:
        answer = client.request(method, path, json=body)
        assert 400 <= answer.status_code < 500, (path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert MARK not in answer.text, path
    answer = client.post("/v1/recommend", json={"x" * 100_000: 1})
    assert len(answer.text) < 2000  # a key is named, and cut
    (problem,) = client.post(
        "/v1/recommend/batch", json={"requests": [{"history": ["i3"], "model": MARK}]}
    ).json()["results"]
    assert problem["status"] == 404
    assert MARK not in str(problem)


@pytest.mark.parametrize("text", [b"{", b"", b"\xff\xfe", b"[1]", b'"x"'], ids=str)
def test_a_damaged_evaluation_is_a_problem_and_the_server_continues(
    client: TestClient,
    runs: dict[str, Path],
    text: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = runs["llmesr"] / "metrics.json"
    whole = file.read_bytes()
    try:
        file.write_bytes(text)
        answer: Any = client.get("/v1/models/llmesr/metrics")
    finally:
        file.write_bytes(whole)
    assert answer.status_code == 409, answer.text
    assert answer.json()["type"] == "urn:seqloom:problem:damaged-file"
    assert str(runs["llmesr"]) not in answer.text
    logged: Any
    (logged,) = [record for record in caplog.records if record.name == "seqloom.serving"]
    assert str(file) in logged.fields["error"]
    assert logged.fields["request_id"] == answer.json()["request_id"]
    assert client.get("/v1/models/llmesr/metrics").json()["evaluations"]
