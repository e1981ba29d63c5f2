"""Explanations in words by a model, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from seqloom.llm.request_options import RequestOptions
from seqloom.serving.config import ServerConfig
from seqloom.serving.engine.engine import Engine
from seqloom.serving.http.app import build_app
from seqloom.serving.http.metrics import Metrics
from seqloom.serving.store.sqlite import SqliteStore
from support.chat_server import chat_server

FALSE = "Everybody loves this thing."


def write(system: str, data: dict[str, Any]) -> dict[str, Any]:
    best = data["history_items_that_raised_the_score"][0]["title"]
    return {"sentences": [f"Because you bought {best}.", FALSE]}


def test_only_supported_sentences_are_shown(
    runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "s.db")
    with chat_server(write) as chat:
        monkeypatch.setenv("SEQLOOM_CHAT_URL", chat.url)
        engine = Engine(runs, store)
        config = ServerConfig(auth=False, explain=RequestOptions(model="openai:m"))
        app = build_app(config, engine, store, Metrics())
        with TestClient(app, base_url="http://localhost") as client:
            body = {"history": ["i3", "i7", "i11"], "model": "llmesr", "words": True}
            words = client.post("/v1/explain", json=body).json()["words"]
        engine.close()
        store.close()
    assert (words["written"], words["supported"]) == (2, 1)
    assert words["sentences"][0]["source"] == "model"
    assert words["sentences"][1]["source"] == "template"
    assert FALSE not in str(words)
