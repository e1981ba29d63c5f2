"""Tokens, scopes, rates, and the rule that a server without tokens is for loopback alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from seqloom.core.errors import ConfigError
from seqloom.serving.config import LimitsConfig, ServerConfig
from seqloom.serving.engine.engine import Engine
from seqloom.serving.http.app import build_app
from seqloom.serving.http.authorization import is_loopback, needs_tokens
from seqloom.serving.http.metrics import Metrics
from seqloom.serving.store.sqlite import SqliteStore
from seqloom.serving.tokens import Bucket, create_token, matches, token_id

BODY = {"history": ["i1"]}


@pytest.fixture
def guarded(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[TestClient, SqliteStore]]:
    """A client of a server that asks for tokens, and its store."""
    monkeypatch.setattr("seqloom.serving.http.authorization._REFRESH_S", 0.0)
    store = SqliteStore(tmp_path / "s.db")
    engine = Engine({"sasrec": runs["sasrec"]}, store)
    config = ServerConfig(auth=True, limits=LimitsConfig(rate_per_s=1000))
    with TestClient(build_app(config, engine, store, Metrics())) as client:
        yield client, store
    engine.close()
    store.close()


def ask(
    client: TestClient,
    token: str | None = None,
    path: str = "recommend",
    body: dict[str, Any] = BODY,
) -> Any:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return client.post(f"/v1/{path}", json=body, headers=headers)


def test_a_token_is_needed_and_its_scope_counts(guarded: tuple[TestClient, SqliteStore]) -> None:
    client, store = guarded
    answer = ask(client)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    _, reader = create_token(store, "app", ["read"])
    _, admin = create_token(store, "ops", ["admin"])
    assert ask(client, reader).status_code == 200
    assert ask(client, reader, "events", {"events": []}).status_code == 403
    assert ask(client, admin).status_code == 403
    assert ask(client, admin, "admin/reload", {}).status_code == 200
    assert client.get("/metrics").status_code == 401
    for open_path in ("/healthz", "/readyz", "/", "/docs", "/openapi.json"):
        assert client.get(open_path).status_code == 200, open_path
    operation = client.get("/openapi.json").json()["paths"]["/v1/recommend"]["post"]
    assert operation["security"] == [{"token": []}]


def test_wrong_expired_and_revoked_tokens(guarded: tuple[TestClient, SqliteStore]) -> None:
    client, store = guarded
    record, token = create_token(store, "app", ["read"])
    forged = token[:-1] + ("A" if token[-1] != "A" else "B")
    for bad in (forged, "x", "seqloom_x", f"seqloom_{record.token_id}_", token + "é"):
        assert client.post(
            "/v1/recommend", json=BODY, headers={b"authorization": f"Bearer {bad}".encode()}
        ).status_code == 401  # fmt: skip
    _, old = create_token(store, "old", ["read"], days=-1)
    assert ask(client, old).status_code == 401
    assert ask(client, token).status_code == 200
    store.revoke_token(record.token_id)
    assert ask(client, token).status_code == 401


def test_the_rate_of_a_token(guarded: tuple[TestClient, SqliteStore]) -> None:
    client, store = guarded
    _, slow = create_token(store, "slow", ["read"], rate=0.01)
    _, other = create_token(store, "other", ["read"])
    assert [ask(client, slow).status_code for _ in range(2)] == [200, 429]
    assert int(ask(client, slow).headers["retry-after"]) >= 1
    assert ask(client, other).status_code == 200


def test_a_bad_token_is_refused_before_the_body_is_read(
    guarded: tuple[TestClient, SqliteStore],
) -> None:
    client, _ = guarded
    assert client.post("/v1/recommend", content=b"{").status_code == 401


def test_the_secret_is_not_kept(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    record, token = create_token(store, "app", ["write", "read"])
    store.close()
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert token.split("_", 2)[2].encode() not in kept
    assert record.scopes == ("read", "write")
    assert token_id(token) == record.token_id
    assert matches(token, record, time.time())


@pytest.mark.parametrize(("name", "scopes"), [("", ["read"]), ("a", []), ("a", ["root"])])
def test_bad_tokens_are_not_made(name: str, scopes: list[str], tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    with pytest.raises(ConfigError):
        create_token(store, name, scopes)
    assert store.tokens() == []
    store.close()


def test_a_bucket_fills_at_its_rate() -> None:
    bucket = Bucket(2)
    assert [bucket.take(0), bucket.take(0)] == [0, 0]
    assert bucket.take(0) == pytest.approx(0.5)
    assert bucket.take(0.5) == 0
    assert bucket.take(0.5) > 0


def test_a_batch_beyond_the_rate_passes_and_is_paid_for() -> None:
    bucket = Bucket(2)
    assert [bucket.take(0), bucket.take_more(9)] == [0, 0]  # 8 requests in debt
    assert bucket.take(1) == pytest.approx(3.5)
    assert bucket.take(4.5) == 0
    # Of two that were let in together, the second meets the debt of the first and costs nothing.
    bucket = Bucket(2)
    assert [bucket.take(0), bucket.take(0)] == [0, 0]
    assert bucket.take_more(4) == 0
    assert bucket.take_more(4) == pytest.approx(2)
    assert bucket.take(2) == 0


def test_a_tokens_batch_may_be_larger_than_its_rate(
    guarded: tuple[TestClient, SqliteStore],
) -> None:
    client, store = guarded
    _, slow = create_token(store, "slow", ["read"], rate=2)
    batch = {"requests": [BODY] * 11}
    assert len(ask(client, slow, "recommend/batch", batch).json()["results"]) == 11
    refused = ask(client, slow)
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "5"  # 2 at hand, 11 taken, 1 needed: 10 at 2 a second
    assert "5 s" in refused.json()["detail"]


def test_without_tokens_on_loopback_alone() -> None:
    assert not needs_tokens(ServerConfig())
    assert needs_tokens(ServerConfig(host="0.0.0.0"))
    assert needs_tokens(ServerConfig(auth=True))
    with pytest.raises(ConfigError, match="token create"):
        needs_tokens(ServerConfig(host="0.0.0.0", auth=False))
    for host, expected in [("localhost", True), ("127.9.9.9", True), ("::1", True),
                           ("[::1]", True), ("10.0.0.1", False), ("localhost.evil.org", False)]:  # fmt: skip
        assert is_loopback(host) == expected, host
