"""A reload between an answer and its reply: the reply describes the model that answered."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from seqloom.pipelines.train.train import train
from seqloom.serving.config import EngineConfig, ServerConfig
from seqloom.serving.engine.engine import Engine
from seqloom.serving.engine.queries import Query
from seqloom.serving.http.app import build_app
from seqloom.serving.http.metrics import Metrics
from seqloom.serving.store.sqlite import SqliteStore
from support.datasets import tiny_dataset

OLD = [[1, 2, 3, 4], [1, 3, 2, 5], [1, 2, 4, 6], [1, 5, 6, 3]]
"""Item 1 is the popular one."""
NEW = [[6, 2, 3, 4], [6, 3, 2, 5], [6, 2, 4, 1], [6, 5, 1, 3]]
"""Item 6 is the popular one."""


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A server that loads another run after each answer, before it replies."""
    titles = [f"thing {n}" for n in range(1, 7)]
    for name, histories in (("old", OLD), ("new", NEW)):
        dataset = tiny_dataset(tmp_path / f"{name}-data", histories, titles)
        train(dataset, "itemknn", out=tmp_path / name, device="cpu")
    served = shutil.copytree(tmp_path / "old", tmp_path / "m")
    store = SqliteStore(tmp_path / "s.db")
    engine = Engine({"m": served}, store, EngineConfig(accept_other_data=True))
    submit = engine.submit

    def submit_and_reload(name: str | None, query: Query) -> Future[Any]:
        future = submit(name, query)
        future.result(20)
        shutil.rmtree(served)
        shutil.copytree(tmp_path / "new", served)
        engine.reload("m")
        return future

    monkeypatch.setattr(engine, "submit", submit_and_reload)
    app = build_app(ServerConfig(auth=False), engine, store, Metrics())
    with TestClient(app, base_url="http://localhost") as client:
        yield client
    engine.close()
    store.close()


def tail_marks(reply: dict[str, Any]) -> dict[str, bool]:
    return {item["item_id"]: item["tail"] for item in reply["items"]}


def test_a_list_has_the_marks_of_the_model_that_answered(client: TestClient) -> None:
    body = {"history": ["i2"], "k": 6, "details": True}
    before, after = (client.post("/v1/recommend", json=body).json() for _ in range(2))
    assert before["version"] != after["version"]
    assert (tail_marks(before)["i1"], tail_marks(before)["i6"]) == (False, True)
    assert (tail_marks(after)["i1"], tail_marks(after)["i6"]) == (True, False)


def test_similar_items_have_the_marks_of_the_model_that_answered(client: TestClient) -> None:
    options = {"k": 6, "details": True}
    before, after = (client.get("/v1/similar/i2", params=options).json() for _ in range(2))
    assert (tail_marks(before)["i1"], tail_marks(before)["i6"]) == (False, True)
    assert (tail_marks(after)["i1"], tail_marks(after)["i6"]) == (True, False)
