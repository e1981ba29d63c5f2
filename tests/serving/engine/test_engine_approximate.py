"""The engine over an index of items: its lists, what is left out of them, and the live catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seqloom.core.errors import ConfigError
from seqloom.inference import ann_index as ann
from seqloom.serving.config import EngineConfig
from seqloom.serving.engine.engine import Engine
from seqloom.serving.engine.queries import Explain, Recommend, Similar
from seqloom.serving.store.sqlite import SqliteStore

HISTORY = ("i3", "i7", "i11")


@pytest.fixture
def open_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    monkeypatch.setattr(ann, "_WORTH_IT", 0)  # else all of so few items are scored
    opened: list[Any] = []

    def made(runs: Any, **options: Any) -> Engine:
        store = SqliteStore(tmp_path / f"{len(opened)}.db")
        engine = Engine(runs, store, EngineConfig(refresh_s=0.05, **options))
        opened.extend([engine, store])
        return engine

    yield made
    for each in opened:
        each.close()


def ids(engine: Any, model: str | None = None, **query: Any) -> list[Any]:
    answer = engine.submit(model, Recommend(**query)).result(20)
    return [item.item_id for item in answer.items]


def test_lists_leave_out_what_they_must(
    open_engine: Callable[..., Any], runs: dict[str, Path]
) -> None:
    exact, actual = open_engine(runs), open_engine(runs, approximate=True, recall=1.0)
    assert actual.model("llmesr").recall.recall == 1.0
    for model in ("llmesr", "sasrec", "itemknn"):
        for query in (
            {"history": HISTORY, "k": 5},
            {"history": HISTORY, "k": 5, "include_seen": True},
            {"history": HISTORY, "k": 5, "exclude": ("i1", "i2", "i4", "no-such")},
            {"history": HISTORY, "k": 5, "candidates": ("i3", "i5", "i9")},
            {"history": HISTORY, "k": 400},
            {"history": tuple(f"i{n}" for n in range(1, 36)), "k": 10},
            {"history": (), "k": 5},
        ):
            assert ids(actual, model, **query) == ids(exact, model, **query), (model, query)
    assert (actual.model("itemknn").recall, exact.model("llmesr").recall) == (None, None)
    queries: list[Any] = [Explain(history=HISTORY), Similar("i3", 5)]
    for query in queries:
        one, two = (each.submit("llmesr", query).result(20) for each in (exact, actual))
        assert one.model == two.model


def test_items_put_in_and_taken_out_are_heeded(
    open_engine: Callable[..., Any], runs: dict[str, Path]
) -> None:
    exact, actual = open_engine(runs), open_engine(runs, approximate=True, recall=1.0)
    for engine in (exact, actual):
        engine.live.put("new", {"title": "title of i7"})
        engine.live.put("i5", {"title": "title of i11, again"})
        engine.live.remove("i9", {})
    for history in (HISTORY, ("new", "i5"), ("i1",)):
        expected = ids(exact, history=history, k=38)
        assert ids(actual, history=history, k=38) == expected
        assert "i9" not in expected
        assert ("new" in expected) == ("new" not in history)
    again = actual.reload()[0]
    assert again.recall.recall == 1.0
    assert "new" in ids(actual, history=HISTORY, k=38)


def test_where_no_model_can_be_searched_the_server_reports_it(
    open_engine: Callable[..., Any], runs: dict[str, Path]
) -> None:
    with pytest.raises(ConfigError, match="leave --approximate out"):
        open_engine({"itemknn": runs["itemknn"]}, approximate=True)
