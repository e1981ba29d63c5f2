"""A store that is gone: `ping` raises, the server is alive but not ready, and its lists still come."""

from __future__ import annotations

import contextlib
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
from support.servers import postgres_server, redis_server


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def leaving(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A store of each kind, and what takes its file or its server away."""
    monkeypatch.setattr("seqloom.serving.store.postgres._CONNECT_TIMEOUT_S", 2)
    with contextlib.ExitStack() as running:
        take: Any
        if request.param == "sqlite":
            file = tmp_path / "s.db"
            store, take = open_store(f"sqlite:///{file}"), file.unlink
        else:
            servers = {"postgresql": postgres_server, "redis": redis_server}
            url = running.enter_context(servers[request.param]())
            store, take = open_store(url), running.close
        yield store, take
        store.close()


@pytest.fixture(scope="module")
def counting(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that needs no training."""
    from seqloom.pipelines.train.train import train

    out = tmp_path_factory.mktemp("counting") / "popularity"
    train(dataset, "popularity", out=out, device="cpu")
    return out


def test_a_server_without_its_store_is_not_ready(leaving: Any, counting: Path) -> None:
    store, take = leaving
    metrics = Metrics()
    engine = Engine({"popularity": counting}, store, EngineConfig(refresh_s=60), observer=metrics)
    app = build_app(ServerConfig(auth=False), engine, store, metrics)
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/readyz").json()["store"] == store.name
        store.ping()
        take()
        with pytest.raises(StoreError):
            store.ping()
        refused = client.get("/readyz")
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:seqloom:problem:store")
        assert client.get("/healthz").status_code == 200
        bare = client.post("/v1/recommend", json={"history": ["i3"], "k": 2})
        assert len(bare.json()["items"]) == 2
    engine.close()


def test_another_file_in_its_place_is_not_the_store(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    store = open_store(f"sqlite:///{file}")
    file.rename(tmp_path / "away.db")
    open_store(f"sqlite:///{file}").close()
    with pytest.raises(StoreError, match="replaced"):
        store.ping()
    store.close()


def test_an_emptied_redis_is_not_the_store(redis_url: str) -> None:
    import redis

    url = f"{redis_url.rsplit('/', 1)[0]}/15"
    store = open_store(url)
    store.ping()
    redis.Redis.from_url(url).flushdb()
    with pytest.raises(StoreError, match="emptied"):
        store.ping()
    store.close()
