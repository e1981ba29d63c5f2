"""Reranking over HTTP: asked for or in the cascade, late or failing, under load."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from seqloom.llm.reranking.options import RerankOptions
from seqloom.serving.config import EngineConfig, ServerConfig
from seqloom.serving.engine.engine import Engine
from seqloom.serving.http.app import build_app
from seqloom.serving.http.metrics import Metrics
from seqloom.serving.store.sqlite import SqliteStore
from support.chat_server import ChatServer, chat_server

HISTORY = ["i3", "i7", "i11"]
KEY = "sk-do-not-show"


def likes_blue(system: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"score": 80 if data["candidate"].startswith("blue") else 20}


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    with chat_server(likes_blue) as running:
        monkeypatch.setenv("SEQLOOM_CHAT_URL", running.url)
        monkeypatch.setenv("SEQLOOM_CHAT_KEY", KEY)
        yield running


@pytest.fixture
def client(runs: Any, chat: Any, tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """Opens a client of a server with these settings of `rerank`."""
    opened: list[tuple[TestClient, Engine, SqliteStore]] = []

    def start(
        budget_ms: float = 5000.0, cascade: tuple[str, ...] = (), **rerank: Any
    ) -> TestClient:
        store = SqliteStore(tmp_path / f"s{len(opened)}.db")
        metrics = Metrics()
        engine = Engine(runs, store, EngineConfig(workers=1), observer=metrics)
        options = RerankOptions.build({"model": "openai:m", "candidates": 8, **rerank})
        config = ServerConfig(
            auth=False, cascade=cascade, rerank=options, engine=EngineConfig(budget_ms=budget_ms)
        )
        app = build_app(config, engine, store, metrics)
        entered = TestClient(app, base_url="http://localhost")
        entered.__enter__()
        opened.append((entered, engine, store))
        return entered

    yield start
    for entered, engine, store in opened:
        entered.__exit__(None, None, None)
        engine.close()
        store.close()


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/recommend", json={"history": HISTORY, "details": True, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(reply: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in reply["items"]]


def test_a_request_can_ask_for_it(client: Any, chat: Any) -> None:
    app = client()
    plain = ask(app, k=8)
    assert chat.requests == []
    assert "rerank" not in plain
    reply = ask(app, k=4, rerank=True)
    blue = [item["item_id"] for item in plain["items"] if item["title"].startswith("blue")]
    rest = [item for item in ids(plain) if item not in blue]
    assert ids(reply) == [*blue, *rest][:4]
    assert reply["rerank"]["applied"]
    assert reply["rerank"]["tokens"] == chat.tokens
    assert ask(app, k=4, rerank=True)["rerank"]["cached"] == 8


def test_the_cascade_ends_with_it(client: Any) -> None:
    app = client(cascade=("sasrec", "popularity"))
    steps = ask(app)["cascade"]
    assert [(step["model"], step["outcome"]) for step in steps] == [
        ("sasrec", "answered"),
        ("rerank", "answered"),
    ]
    assert "rerank" not in ask(app, rerank=False)
    assert "rerank" not in ask(app, model="sasrec")


def test_a_late_model_leaves_the_list_and_is_skipped_next_time(client: Any, chat: Any) -> None:
    app = client(budget_ms=300.0, cascade=("popularity",))
    chat.delay_s = 1.0
    first = ask(app, k=5)
    assert ids(first) == ids(ask(app, k=5, rerank=False))
    assert not first["rerank"]["applied"]
    assert ask(app, k=5)["cascade"][-1]["outcome"] == "skipped"


def test_a_failure_names_no_host_and_no_key(client: Any, chat: Any) -> None:
    app = client()
    chat.status = 500
    reply = ask(app, rerank=True)
    assert reply["rerank"]["reason"] == "failed: the language model failed"
    assert KEY not in str(reply)
    assert "127.0.0.1" not in str(reply)


def test_users_without_a_history_keep_the_popular_items(client: Any, chat: Any) -> None:
    reply = ask(client(), history=[], rerank=True)
    assert reply["rerank"]["reason"] == "skipped: there is no history"
    assert reply["fallback"]
    assert chat.requests == []


def test_a_server_without_a_model_refuses(runs: Any, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    engine = Engine(runs, store)
    app = build_app(ServerConfig(auth=False), engine, store, Metrics())
    with TestClient(app, base_url="http://localhost") as plain:
        answer = plain.post("/v1/recommend", json={"history": HISTORY, "rerank": True})
    engine.close()
    store.close()
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "body/rerank"


def test_fifty_requests_at_once_keep_their_budgets(client: Any, chat: Any) -> None:
    chat.delay_s = 0.1
    app = client(time_s=1.0, max_tokens=12_000, concurrency=4, cache=0)
    ask(app, rerank=False)

    def one(number: int) -> tuple[dict[str, Any], float]:
        began = time.perf_counter()
        reply = ask(app, history=[*HISTORY, f"i{1 + number % 40}"], rerank=True)
        return reply, time.perf_counter() - began

    with ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(one, range(50)))
    assert (
        max(seconds for _, seconds in replies) < 1.0 + 3.0
    )  # the requests themselves take time too
    for reply, _ in replies:
        assert len(reply["items"]) == 10
        assert reply["rerank"]["tokens"] <= 12_000
        assert reply["rerank"]["applied"] or reply["rerank"]["reason"]
