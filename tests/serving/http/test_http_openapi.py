"""Requests generated from the interface's own description: none may be the server's fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from seqloom.serving.config import ServerConfig
from seqloom.serving.engine.engine import Engine
from seqloom.serving.http.app import build_app
from seqloom.serving.http.metrics import Metrics
from seqloom.serving.store import open_store

schemathesis = pytest.importorskip("schemathesis")
GenerationMode = schemathesis.GenerationMode
HOST = {"host": "localhost"}


@pytest.fixture(scope="module")
def app(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('openapi') / 's.db'}")
    engine = Engine(runs, store)
    yield build_app(ServerConfig(), engine, store, Metrics())
    engine.close()
    store.close()


def generate(app: FastAPI, examples: int) -> Counter[int]:
    """Ask each operation with `examples` fitting and as many unfitting requests.

    Gives how often each status was answered.
    """
    statuses: Counter[int] = Counter()
    for actual in schemathesis.openapi.from_asgi(
        "/openapi.json", app, headers=HOST
    ).get_all_operations():
        for mode in GenerationMode:
            ask_operation(actual.ok(), mode, examples, statuses)
    return statuses


def ask_operation(operation: Any, mode: Any, examples: int, statuses: Counter[int]) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(mode))
    def ask(case: Any) -> None:
        answer = case.call(headers=HOST)
        statuses[answer.status_code] += 1
        assert answer.status_code < 500, (case.as_curl_command(), answer.text)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == ["application/problem+json"]

    try:
        ask()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # an operation without parameters cannot be misused


def test_generated_requests_find_no_fault(app: FastAPI) -> None:
    statuses = generate(app, 8)
    assert statuses[200] > 20
    assert statuses[422] > 20


@pytest.mark.slow
def test_five_thousand_generated_requests_find_no_fault(app: FastAPI) -> None:
    statuses = generate(app, 220)
    print(dict(statuses))
    assert statuses.total() >= 5000
