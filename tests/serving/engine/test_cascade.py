"""The cascade: the best model that answers in time, and the report on the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from seqloom.core.errors import SeqloomError
from seqloom.serving.config import EngineConfig
from seqloom.serving.engine.cascade import Cascade, RecentLatency
from seqloom.serving.engine.engine import Engine, UnknownModelError
from seqloom.serving.engine.queries import Recommend
from seqloom.serving.store.sqlite import SqliteStore

QUERY = Recommend(history=("i3", "i7"))


@pytest.fixture
def engine(runs: dict[str, Path], tmp_path: Path) -> Iterator[Engine]:
    store = SqliteStore(tmp_path / "s.db")
    made = Engine(runs, store, EngineConfig(workers=2))
    yield made
    made.close()
    store.close()


@pytest.fixture
def slow(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Make a model take its time, or fail."""

    def make(name: str, seconds: float = 0.0, error: Exception | None = None) -> None:
        lane = engine._lanes[name]
        quick = lane.handle

        def handle(queries: Any) -> Sequence[Any]:
            time.sleep(seconds)
            if error is not None:
                raise error
            return quick(queries)

        monkeypatch.setattr(lane, "handle", handle)

    return make


def ask(cascade: Cascade, budget_s: float = 0.1) -> tuple[str, list[tuple[Any, Any]]]:
    answer, steps = asyncio.run(cascade.recommend(QUERY, budget_s))
    return answer.model, [(step.model, step.outcome) for step in steps]


def test_the_first_answers_where_there_is_time(engine: Engine) -> None:
    cascade = Cascade(engine, ["llmesr", "popularity"])
    assert ask(cascade, 5) == ("llmesr", [("llmesr", "answered")])


def test_a_late_model_is_left_and_then_skipped(engine: Engine, slow: Callable[..., Any]) -> None:
    slow("llmesr", 0.3)
    cascade = Cascade(engine, ["llmesr", "itemknn", "popularity"])
    began = time.perf_counter()
    model, steps = ask(cascade)
    assert (model, steps[0]) == ("itemknn", ("llmesr", "late")) or model == "popularity"
    assert time.perf_counter() - began < 0.3
    model, steps = ask(cascade)
    assert steps[0] == ("llmesr", "skipped")
    assert model == "itemknn"


def test_a_failing_model_is_passed_over(engine: Engine, slow: Callable[..., Any]) -> None:
    slow("llmesr", error=SeqloomError("broken"))
    cascade = Cascade(engine, ["llmesr", "popularity"])
    assert ask(cascade, 5) == ("popularity", [("llmesr", "failed"), ("popularity", "answered")])
    with pytest.raises(SeqloomError, match="broken"):
        ask(Cascade(engine, ["popularity", "llmesr"][1:]), 5)


def test_the_last_one_is_waited_for(engine: Engine, slow: Callable[..., Any]) -> None:
    slow("popularity", 0.2)
    assert ask(Cascade(engine, ["popularity"]), 0.01)[0] == "popularity"


def test_names_must_be_served(engine: Engine) -> None:
    with pytest.raises(UnknownModelError):
        Cascade(engine, ["llmesr", "nope"])


def test_latencies_are_forgotten() -> None:
    seen = RecentLatency()
    assert seen.expect(0) == 0
    seen.record(1.0, 0)
    assert seen.expect(1) == pytest.approx(1.0)
    seen.record(2.0, 1)
    assert seen.expect(2) == pytest.approx(1.2 + 2 * 0.2)
    assert seen.expect(30) == 0
