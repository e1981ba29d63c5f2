"""The direct route answers as FastAPI's route, which describes the endpoint, would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from seqloom.serving.config import ServerConfig
from seqloom.serving.engine.engine import Engine
from seqloom.serving.http.app import build_app
from seqloom.serving.http.direct_route import DirectRoute
from seqloom.serving.http.metrics import Metrics
from seqloom.serving.store.sqlite import SqliteStore

JSON = "application/json"
BODIES = [
    (b'{"history": ["i3", "i7"], "k": 3}', JSON),
    (b'{"history": ["i3", "i7"], "k": 3}', "application/json; charset=utf-8"),
    (b'{"history": ["i3", "i7"], "k": 3}', "Application/JSON"),
    (b'{"history": ["i3", "i7"], "k": 3}', "application/vnd.seqloom+json"),
    (b'\xef\xbb\xbf{"history": ["i3"], "details": true}', JSON),
    (b'{"user_id": "nobody"}', JSON),
    (b'{"history": ["i3"], "k": "4"}', JSON),
    (b'{"history": ["i3"], "k": 3}', "text/plain"),
    (b'{"history": ["i3"], "k": 3}', None),
    (b"", JSON),
    (b"", None),
    (b"{", JSON),
    (b'{"history": ["\xff"]}', JSON),
    (b'{"history": ["\\ud800"]}', JSON),
    (b'{"history": ["i3"], "budget_ms": NaN}', JSON),
    (b"[]", JSON),
    (b"null", JSON),
    (b"{}", JSON),
    (b'{"history": ["i3"], "user_id": "u"}', JSON),
    (b'{"history": ["i3"], "k": 0}', JSON),
    (b'{"history": ["i3"], "k": 100000}', JSON),
    (b'{"history": ["i3", 7], "other": 1}', JSON),
    (b'{"history": ["i3"], "model": "none such"}', JSON),
    (b'{"history": ["i3"], "budget_ms": 5}', JSON),
]


@pytest.fixture(scope="module")
def clients(
    runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TestClient, TestClient]]:
    """A server with the direct route and one without."""
    store = SqliteStore(tmp_path_factory.mktemp("direct") / "s.db")
    engine = Engine(runs, store)
    config = ServerConfig(auth=False)
    direct, plain = (build_app(config, engine, store, Metrics()) for _ in range(2))
    routes = plain.router.routes
    assert any(isinstance(route, DirectRoute) for route in routes)
    routes[:] = [route for route in routes if not isinstance(route, DirectRoute)]
    with (
        TestClient(direct, base_url="http://localhost") as one,
        TestClient(plain, base_url="http://localhost") as two,
    ):
        yield one, two
    engine.close()
    store.close()


def outcome(answer: Any) -> tuple[int, str, dict[str, object]]:
    document = answer.json()
    document.pop("request_id", None)
    return answer.status_code, answer.headers["content-type"], document


@pytest.mark.parametrize(("body", "content_type"), BODIES)
def test_answers_and_faults_are_those_of_the_described_route(
    clients: tuple[TestClient, TestClient], body: bytes, content_type: str | None
) -> None:
    headers = {"x-request-id": "same"} | ({"content-type": content_type} if content_type else {})
    direct, plain = (c.post("/v1/recommend", content=body, headers=headers) for c in clients)
    assert outcome(direct) == outcome(plain)


def test_a_body_in_pieces_of_no_stated_length_is_read(
    clients: tuple[TestClient, TestClient],
) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"history": ["i3"'
        yield b', "i7"], "k": 3}'

    headers = {"content-type": JSON}
    direct, plain = (c.post("/v1/recommend", content=pieces(), headers=headers) for c in clients)
    assert direct.status_code == 200
    assert outcome(direct) == outcome(plain)


def test_other_methods_go_on_to_the_routes_after_it(
    clients: tuple[TestClient, TestClient],
) -> None:
    direct, plain = (client.get("/v1/recommend") for client in clients)
    assert direct.status_code == 405
    assert outcome(direct) == outcome(plain)


def test_metrics_name_the_route(clients: tuple[TestClient, TestClient]) -> None:
    direct, _ = clients
    direct.post("/v1/recommend", json={"history": ["i3"]})
    assert 'route="/v1/recommend",status="200"' in direct.get("/metrics").text
