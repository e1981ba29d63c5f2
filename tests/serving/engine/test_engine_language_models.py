"""Runs of e4srec and idgenrec behind the real command, and new items in every system that can take them."""

from __future__ import annotations

import dataclasses
import gc
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
import torch

from seqloom.core.errors import EmbeddingError
from seqloom.core.files import read_json, write_json
from seqloom.data.store import Dataset
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.runs.new_items import new_item_reader
from seqloom.serving.config import EngineConfig
from seqloom.serving.engine.engine import Engine
from seqloom.serving.engine.queries import Explain, Recommend, Similar
from seqloom.serving.store.sqlite import SqliteStore
from support.datasets import SMALL, SMALL_IDGENREC, small_config

HISTORY = ("i3", "i7", "i11")
GROWING = ["llmesr", "e4srec", "idgenrec"]
NEW = {"title": "red thing number 5"}


@pytest.fixture(scope="module")
def models(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """Folders of runs by name; `second` is another plug-in of e4srec's language model."""
    folder = tmp_path_factory.mktemp("models")
    plug_in = small_config("e4srec")
    configs = {
        "idgenrec": {**SMALL_IDGENREC, "rounds": 1},
        "e4srec": plug_in,
        "second": {
            **plug_in,
            "seed": 5,
            "ids": {"run": str(folder / "e4srec" / "ids")},
            "candidates": "ids",
        },
        "llmesr": SMALL,
        "popularity": {},
    }
    for name, config in configs.items():
        system = "e4srec" if name == "second" else name
        train(dataset, system, out=folder / name, config=config, device="cpu")
    return {name: folder / name for name in configs}


@pytest.fixture(scope="module")
def loaded(models: dict[Any, Any]) -> dict[Any, Any]:
    """What a test may score with in any order: no test changes it."""
    return {name: load_run(path) for name, path in models.items()}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "s.db")
    yield made
    made.close()


@pytest.fixture
def engine(models: dict[Any, Any], store: SqliteStore) -> Iterator[Engine]:
    made = Engine(models, store, EngineConfig(refresh_s=60))
    yield made
    made.close()


def ask(engine: Engine, query: Explain | Recommend | Similar, model: str | None) -> Any:
    return engine.submit(model, query).result(60)


def ids(answer: Any) -> list[str]:
    return [item.item_id for item in answer.items]


def post(client: httpx.Client, path: str, **body: Any) -> Any:
    answer = client.post(f"/v1/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def listed(reply: Any) -> list[str]:
    return [item["item_id"] for item in reply["items"]]


def test_the_command_serves_them_side_by_side(
    serve: Callable[..., Any], models: dict[Any, Any], loaded: dict[Any, Any]
) -> None:
    cascade = ["--cascade", "idgenrec,llmesr,popularity", "--budget-ms", "20000"]
    server = serve(*map(str, models.values()), *cascade)
    served = {each["model"]: each["system"] for each in server.summary["models"]}
    assert served == {**{name: name for name in models}, "second": "e4srec"}
    history = list(HISTORY)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for model in ("idgenrec", "e4srec"):
            expected = loaded[model].recommend([history], k=5)[0].items
            reply = post(client, "recommend", history=history, k=5, model=model)
            assert listed(reply) == [item.item_id for item in expected]
            first, second, *_ = listed(reply)
            without = post(client, "recommend", history=history, exclude=[first], model=model)
            assert listed(without)[0] == second
            some = [second, "i3", "zz", first]
            among = post(client, "recommend", history=history, candidates=some, model=model)
            assert (listed(among), among["unknown"]) == ([first, second], {"candidates": ["zz"]})
            both = [{"history": history, "model": model}, {"user_id": "u4", "model": model}]
            results = post(client, "recommend/batch", requests=both)["results"]
            assert [len(each["items"]) for each in results] == [10, 10]
            reported = post(client, "explain", history=history, model=model)
            assert reported["item_id"] == first
            assert {each["item_id"] for each in reported["history"]} == set(history)
            similar = client.get("/v1/similar/i5", params={"model": model, "k": 4}).json()
            assert len(listed(similar)) == 4
            assert "i5" not in listed(similar)
            put = client.put("/v1/items/new", json={"attributes": NEW}).json()
            can = {each["model"]: each["recommends"] for each in put["models"]}
            assert can == {**dict.fromkeys(models, True), "popularity": False}
            actual = post(client, "recommend", history=history, k=100, model=model)
            assert "new" in listed(actual)
            client.delete("/v1/items/new").raise_for_status()
            actual = post(client, "recommend", history=history, k=100, model=model)
            assert "new" not in listed(actual)
        reply = post(client, "recommend", history=history)
        assert (reply["model"], reply["cascade"][0]["outcome"]) == ("idgenrec", "answered")
        time.sleep(0.1)
        reply = post(client, "recommend", history=history, budget_ms=0.01)
        steps = {step["model"]: step["outcome"] for step in reply["cascade"]}
        assert steps == {"idgenrec": "skipped", "llmesr": "skipped", "popularity": "answered"}
    assert server.stop() == 0


def test_plug_ins_share_one_language_model(engine: Engine) -> None:
    first: Any = engine.model("e4srec").run.system
    second: Any = engine.model("second").run.system
    assert first.base is second.base
    queries = [Recommend(history=tuple(f"i{n}" for n in range(1, m)), k=5) for m in range(2, 12)]
    alone = {  # lists of ids, for an answer holds its model
        name: [ids(ask(engine, query, name)) for query in queries] for name in ("e4srec", "second")
    }
    futures = {name: [engine.submit(name, query) for query in queries] for name in alone}
    for name, answers in alone.items():
        together = [future.result(60) for future in futures[name]]
        assert [ids(each) for each in together] == answers
        del together
    assert alone["e4srec"] != alone["second"]
    del futures
    # A reload lets go of the old plug-in's adapter, and the base stays where it is.
    gc.collect()
    base: Any = second.base
    users = len(base.users)
    engine.reload("e4srec")
    reloaded: Any = engine.model("e4srec").run.system.base
    assert reloaded is base
    del first
    gc.collect()
    assert ids(ask(engine, queries[3], "e4srec")) == alone["e4srec"][3]
    assert len(base.users) == users


@pytest.mark.parametrize("name", GROWING)
def test_the_tables_are_all_that_a_scorer_needs(name: str, loaded: dict[Any, Any]) -> None:
    system = loaded[name].system
    tables = system.item_tables()
    assert {len(table) for table in tables.values()} == {40}
    items, lengths = torch.tensor([[3, 7, 11]]), torch.tensor([3])
    with torch.inference_mode():
        own, other = system.scorer(), system.scorer_over(tables)
        torch.testing.assert_close(own.score(items, lengths), other.score(items, lengths))


@pytest.mark.parametrize("name", GROWING)
def test_a_new_item_lifts_no_old_score_and_is_read_in_histories(
    name: str, models: dict[Any, Any]
) -> None:
    run = load_run(models[name])
    items, lengths = torch.tensor([[3, 7, 11]]), torch.tensor([3])
    with torch.inference_mode():
        before = run.scorer.score(items, lengths)
        run.add_items(pa.table({"item_id": ["new", "bare"], "title": [NEW["title"], None]}))
        after = run.scorer.score(items, lengths)
        read = run.scorer.score(torch.tensor([[3, 41]]), torch.tensor([2]))
        unread = run.scorer.score(torch.tensor([[3]]), torch.tensor([1]))
    assert after.shape == (1, 42)
    if name == "idgenrec":  # probabilities of the catalogue: new items take their share
        assert (after[:, :40] <= before + 1e-5).all()
        torch.testing.assert_close(after.exp().sum(1), torch.ones(1))
    else:
        torch.testing.assert_close(after[:, :40], before, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(read, unread)
    assert run.item_ids[-2:] == ["new", "bare"]


@pytest.mark.parametrize("name", GROWING)
def test_items_come_change_go_and_come_back(name: str, engine: Engine) -> None:
    whole = Recommend(history=HISTORY, k=100)
    engine.live.put("new", NEW)
    assert ids(ask(engine, whole, name)).count("new") == 1
    engine.live.put("new", {"title": "blue thing number 8"})
    assert ids(ask(engine, whole, name)).count("new") == 1
    engine.live.put("i5", {"title": "blue thing number 8"})  # an item of the training
    assert ids(ask(engine, whole, name)).count("i5") == 1
    engine.live.remove("new", {})
    engine.live.remove("i5", {})
    assert not {"new", "i5"} & set(ids(ask(engine, whole, name)))
    engine.live.put("new", NEW)
    engine.live.put("i5", NEW)
    assert len(ids(ask(engine, whole, name))) == 38
    reported = ask(engine, Explain(history=("new", "i3"), item_id="i5"), name)
    assert {each.item_id for each in reported.history} == {"new", "i3"}
    assert "new" not in ids(ask(engine, Similar("new", 100), name))


def test_a_restart_and_a_reload_bring_new_items_back(
    engine: Engine, models: dict[Any, Any], store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        engine.live.put(f"n{number}", {"title": f"red thing {number}"})
    queries = {name: Recommend(history=("n1", "i3"), k=100) for name in GROWING}
    before = {name: ask(engine, query, name) for name, query in queries.items()}
    # What is embedded once is kept.
    monkeypatch.setattr("seqloom.text.item_text.ItemText.embed", lambda *_: pytest.fail("embedded"))
    engine.reload()
    after = Engine(models, store, EngineConfig(refresh_s=60))
    for name, query in queries.items():
        for each in (engine, after):
            answer = ask(each, query, name)
            assert sorted(ids(answer)) == sorted(ids(before[name]))
            assert answer.unknown == {}
    after.close()


def test_an_item_that_cannot_be_read_holds_up_no_other(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = engine.model("idgenrec")
    name_item = model.reader.rows_of

    def fail(new: Any, tables: Any) -> Any:
        if "bad" in new.item_ids:
            raise EmbeddingError("no words left")
        return name_item(new, tables)

    reader = dataclasses.replace(model.reader, rows_of=fail)
    monkeypatch.setattr(model.catalogue, "_reader", reader)
    engine.live.put("bad", NEW)
    engine.live.put("good", NEW)
    assert engine.model("llmesr").snapshot.offers("bad")
    assert model.snapshot.offers("good")
    assert not model.snapshot.offers("bad")
    assert model.refused == {"bad": "no words left"}


def test_without_its_data_set_a_plug_in_explains_why_it_takes_none(
    models: dict[Any, Any], store: SqliteStore, tmp_path: Path
) -> None:
    path = shutil.copytree(models["second"], tmp_path / "moved")
    manifest = read_json(path / "manifest.json", "run")
    manifest["dataset"]["path"] = str(tmp_path / "gone")
    write_json(path / "manifest.json", manifest)
    engine = Engine({"moved": path}, store)
    assert "no longer at" in engine.model().no_new_items
    engine.live.put("new", NEW)
    assert not engine.model().snapshot.offers("new")
    assert len(ids(ask(engine, Recommend(history=HISTORY), None))) == 10
    engine.close()


def test_a_grown_run_of_idgenrec_on_disk(models: dict[Any, Any], tmp_path: Path) -> None:
    import polars as pl

    from seqloom.pipelines.evaluate.evaluate import evaluate
    from seqloom.pipelines.recommend.add_items import add_items

    new = pl.DataFrame({"item_id": ["n1", "n2"], "title": ["red thing", "blue thing"]})
    reported = add_items(models["idgenrec"], new, out=tmp_path / "grown")
    assert (reported.items, reported.text, reported.explained) == (42, None, {})
    run: Any = load_run(tmp_path / "grown")
    assert len(set(run.system.words())) == 42
    (actual,) = run.recommend([["n1", "i3"]], k=100)
    assert "n2" in [item.item_id for item in actual.items]
    before = evaluate(models["idgenrec"], device="cpu").metrics
    assert evaluate(run.path, device="cpu").metrics == before


def test_a_reader_is_refused_where_there_is_no_text(loaded: dict[Any, Any]) -> None:
    reader = new_item_reader(loaded["second"])
    assert new_item_reader(loaded["e4srec"]).text is None
    assert reader.text.name == new_item_reader(loaded["llmesr"]).text.name
    assert new_item_reader(loaded["idgenrec"]).text is None
