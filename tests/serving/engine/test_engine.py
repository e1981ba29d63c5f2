"""The engine against plain computation: batching, top-k, masks, live items, reload, shutdown."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import SeqloomError
from seqloom.core.protocols import Scorer
from seqloom.data.store import Dataset
from seqloom.runs.folder import load_run
from seqloom.serving.config import EngineConfig
from seqloom.serving.engine.answering import NO_HISTORY, NOTHING_KNOWN, UnknownItemError
from seqloom.serving.engine.engine import Engine, UnknownModelError
from seqloom.serving.engine.queries import Explain, Recommend, Similar
from seqloom.serving.engine.scheduler import ClosedError, Lane, OverloadedError, Scheduler
from seqloom.serving.store.base import Event
from seqloom.serving.store.sqlite import SqliteStore

HISTORY = ("i3", "i7", "i11")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "s.db")
    yield made
    made.close()


@pytest.fixture
def engine(runs: dict[str, Path], store: SqliteStore) -> Iterator[Engine]:
    made = Engine(runs, store, EngineConfig(refresh_s=0.05))
    yield made
    made.close()


def ask(engine: Engine, query: Explain | Recommend | Similar, model: str | None = None) -> Any:
    return engine.submit(model, query).result(20)


def ids(answer: Any) -> list[str]:
    return [item.item_id for item in answer.items]


@pytest.mark.parametrize("name", ["llmesr", "sasrec", "itemknn", "popularity"])
def test_lists_are_those_of_the_library(name: str, engine: Engine, runs: dict[str, Path]) -> None:
    expected = load_run(runs[name]).recommend([list(HISTORY)], k=7)[0].items
    answer = ask(engine, Recommend(history=HISTORY, k=7), name)
    assert ids(answer) == [item.item_id for item in expected]
    assert [i.score for i in answer.items] == pytest.approx([i.score for i in expected], rel=1e-4)
    assert answer.version == load_run(runs[name]).manifest.weights_sha256[:12]


def test_a_batch_gives_what_single_requests_give(engine: Engine) -> None:
    queries = [Recommend(history=tuple(f"i{n}" for n in range(1, m))) for m in range(2, 30)]
    alone = [ids(ask(engine, query)) for query in queries]
    futures = [engine.submit(None, query) for query in queries]
    assert [ids(future.result(20)) for future in futures] == alone


def test_top_k_is_exact(engine: Engine) -> None:
    model = engine.model()
    with torch.inference_mode():
        scores = model.score(model.snapshot, [[3, 7, 11]])[0].clone()
        scores[[2, 6, 10]] = float("-inf")
    order = sorted(range(40), key=lambda j: -scores[j])
    assert ids(ask(engine, Recommend(history=HISTORY, k=37))) == [f"i{j + 1}" for j in order[:37]]
    assert len(ids(ask(engine, Recommend(history=HISTORY, k=400)))) == 37


def test_seen_excluded_and_candidates(engine: Engine) -> None:
    first = ids(ask(engine, Recommend(history=HISTORY, k=5)))
    assert not set(first) & set(HISTORY)
    without = ids(ask(engine, Recommend(history=HISTORY, k=5, exclude=(first[0], "no-such"))))
    assert without[:4] == first[1:]
    among = ask(engine, Recommend(history=HISTORY, candidates=("i3", "i5", first[0], "x")))
    assert ids(among) == [first[0], "i5"]
    assert among.unknown == {"candidates": ["x"]}
    assert ids(ask(engine, Recommend(history=HISTORY, candidates=("x",)))) == []
    seen = ids(ask(engine, Recommend(history=HISTORY, k=40, include_seen=True)))
    assert set(HISTORY) <= set(seen)


def test_without_history_the_popular_items_are_given_and_marked(
    engine: Engine, dataset: Dataset
) -> None:
    counts, keys = dataset.popularity[1:].tolist(), dataset.tie_keys.tolist()
    order = sorted(range(len(counts)), key=lambda j: (-counts[j], keys[j]))
    assert len(set(counts)) < len(counts)  # some tie
    answer = ask(engine, Recommend(user_id="nobody", k=40))
    assert answer.fallback == NO_HISTORY
    assert ids(answer) == [dataset.item_ids[j] for j in order]
    strange = ask(engine, Recommend(history=("x", "y"), k=3))
    assert strange.fallback == NOTHING_KNOWN
    assert strange.unknown == {"history": ["x", "y"]}
    assert ask(engine, Recommend(history=HISTORY)).fallback is None


def test_a_users_history_is_read_for_each_query(engine: Engine, store: SqliteStore) -> None:
    store.append([Event("u", item, n) for n, item in enumerate(HISTORY)])
    assert ids(ask(engine, Recommend(user_id="u"))) == ids(ask(engine, Recommend(history=HISTORY)))
    store.append([Event("u", "i20", 9)])
    grown = ask(engine, Recommend(user_id="u"))
    assert ids(grown) == ids(ask(engine, Recommend(history=(*HISTORY, "i20"))))
    assert grown.history_length == 4


def test_an_unknown_model_is_named(engine: Engine) -> None:
    with pytest.raises(UnknownModelError, match="'nope'"):
        engine.submit("nope", Recommend(history=HISTORY))


def test_a_new_item_is_recommended_without_training(engine: Engine, store: SqliteStore) -> None:
    twin = {"title": "red thing number 5"}  # the text of i5
    engine.live.put("new", twin)
    snapshot: Any = engine.model("llmesr").snapshot
    new, old = snapshot.number("new"), snapshot.number("i5")
    semantic = engine.model("llmesr").views["semantic"]
    vectors = snapshot.scorer.item_vectors
    assert torch.allclose(vectors[new - 1, semantic], vectors[old - 1, semantic], atol=1e-5)
    lists = ids(ask(engine, Recommend(history=HISTORY, k=100), "llmesr"))
    assert "new" in lists
    assert len(lists) == 38
    # It is an input too, and then not given again.
    follow = ask(engine, Recommend(history=("new",), k=100), "llmesr")
    assert follow.unknown == {}
    assert "new" not in ids(follow)
    # A system that cannot says why, and does not know it.
    assert "trained on" in engine.model("sasrec").no_new_items
    assert ask(engine, Recommend(history=("new",)), "sasrec").unknown == {"history": ["new"]}


def test_items_are_described_again_removed_and_restored(engine: Engine) -> None:
    engine.live.put("i5", {"title": "blue thing number 8"})
    snapshot: Any = engine.model("llmesr").snapshot
    views = engine.model("llmesr").views
    vectors = snapshot.scorer.item_vectors
    now, eight = vectors[snapshot.number("i5") - 1], vectors[7]
    assert torch.allclose(now[views["semantic"]], eight[views["semantic"]], atol=1e-5)
    assert torch.equal(now[views["collaborative"]], vectors[4][views["collaborative"]])
    for name in ("llmesr", "sasrec"):
        whole = Recommend(history=HISTORY, k=100)
        assert ids(ask(engine, whole, name)).count("i5") == 1
        engine.live.remove("i5", {})
        assert "i5" not in ids(ask(engine, whole, name))
        assert ask(engine, Recommend(history=("i5",)), name).unknown == {}
        engine.live.put("i5", {"title": "red thing number 5"})
        assert ids(ask(engine, whole, name)).count("i5") == 1


def test_another_server_sees_a_new_item_and_a_restart_embeds_nothing(
    engine: Engine, runs: dict[str, Path], store: SqliteStore
) -> None:
    other = Engine(runs, store, EngineConfig(refresh_s=0.05))
    engine.live.put("new", {"title": "red thing"})
    for _ in range(100):
        if other.model("llmesr").snapshot.offers("new"):
            break
        time.sleep(0.02)
    assert other.model("llmesr").snapshot.offers("new")
    other.close()


def test_a_model_that_searches_gives_lists_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = engine.model("itemknn")
    scorer = model.snapshot.scorer
    expected = ask(engine, Recommend(history=HISTORY, k=37, exclude=("i9",)), "itemknn")
    among = ask(engine, Recommend(history=HISTORY, candidates=("i5", "i6")), "itemknn")

    class Searching:
        num_items, list_size, score = scorer.num_items, 10, staticmethod(scorer.score)

        def exact_scorer(self) -> Scorer:
            return scorer

        def restrict_to(self, numbers: Any) -> None:
            raise NotImplementedError

        def score_candidates(self, items: Any, lengths: Any, candidates: Any) -> torch.Tensor:
            actual = scorer.score(items, lengths).gather(1, (candidates - 1).clamp(min=0))
            return actual.masked_fill(candidates == 0, float("-inf"))

        def best(
            self, items: Any, lengths: Any, k: Any, seen: Any = None
        ) -> tuple[torch.Tensor, torch.Tensor]:
            scores = scorer.score(items, lengths).clone()
            for row, numbers in zip(scores, [] if seen is None else seen.tolist(), strict=True):
                row[[number - 1 for number in numbers if number]] = float("-inf")
            top = scores.topk(k, dim=1)
            gone = top.values == float("-inf")
            return (top.indices + 1).masked_fill(gone, 0), top.values

    snapshot = model.snapshot
    ranker = dataclasses.replace(snapshot.ranker, scorer=Searching())
    monkeypatch.setattr(model.catalogue, "snapshot", dataclasses.replace(snapshot, ranker=ranker))
    actual = ask(engine, Recommend(history=HISTORY, k=400, exclude=("i9",)), "itemknn")
    assert actual.items == expected.items
    assert ask(engine, Recommend(history=HISTORY, candidates=("i5", "i6")), "itemknn") == among
    engine.live.remove("i20", {})
    assert "i20" not in ids(ask(engine, Recommend(history=HISTORY, k=400), "itemknn"))
    among = Recommend(
        history=HISTORY, candidates=("i20", "i3", "i6", "i6", "zz"), include_seen=True
    )
    assert set(ids(ask(engine, among, "itemknn"))) == {"i3", "i6"}
    assert ids(ask(engine, Recommend(history=HISTORY, candidates=("i20",)), "itemknn")) == []


def test_the_same_text_again_changes_nothing(engine: Engine) -> None:
    for _ in range(3):
        engine.live.put("new", {"title": "red thing"})
    assert engine.model("llmesr").snapshot.scorer.num_items == 41


def test_many_new_items_outgrow_the_room(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqloom.serving.engine.tables._ROOM", 2)
    for n in range(20):
        engine.live.put(f"n{n}", {"title": f"word{n} thing"})
    lists = ids(ask(engine, Recommend(history=HISTORY, k=100), "llmesr"))
    assert {f"n{n}" for n in range(20)} <= set(lists)
    assert len(lists) == len(set(lists)) == 57


def test_explanations_are_leave_one_out(engine: Engine) -> None:
    reported = ask(engine, Explain(history=(*HISTORY, "zz")), "llmesr")
    assert reported.unknown == {"history": ["zz"]}
    assert reported.item_id == ids(ask(engine, Recommend(history=HISTORY), "llmesr"))[0]
    model = engine.model("llmesr")
    number = model.snapshot.number(reported.item_id)
    with torch.inference_mode():
        whole = model.score(model.snapshot, [[3, 7, 11]])[0, number - 1]
        left = model.score(model.snapshot, [[7, 11], [3, 11], [3, 7]])[:, number - 1]
    changes = {each.item_id: each.change for each in reported.history}
    expected = {item: float(whole - s) for item, s in zip(HISTORY, left, strict=True)}
    assert changes == pytest.approx(expected, abs=1e-5)
    assert [c.change for c in reported.history] == sorted(changes.values(), reverse=True)
    assert sum(part.score for part in reported.views.values()) == pytest.approx(
        reported.score, abs=1e-4
    )
    assert sum(part.share for part in reported.views.values()) == pytest.approx(1)
    assert ask(engine, Explain(history=HISTORY, item_id="i9"), "itemknn").views == {}
    with pytest.raises(SeqloomError, match="no item of it"):
        ask(engine, Explain(user_id="nobody"))
    with pytest.raises(SeqloomError, match="does not know"):
        ask(engine, Explain(history=HISTORY, item_id="zz"))


@pytest.mark.parametrize("name", ["llmesr", "itemknn"])
def test_similar_items(name: str, engine: Engine) -> None:
    answer = ask(engine, Similar("i5", 4), name)
    assert len(answer.items) == 4
    assert "i5" not in ids(answer)
    assert answer.method
    with pytest.raises(UnknownItemError):
        ask(engine, Similar("zz"), name)


def test_reload_swaps_while_requests_run(
    dataset: Dataset, runs: dict[str, Path], store: SqliteStore, tmp_path: Path
) -> None:
    from seqloom.pipelines.train.train import train

    path = tmp_path / "run"
    shutil.copytree(runs["sasrec"], path)
    engine = Engine({"m": path}, store)
    engine.live.remove("i2", {})
    versions, stop = set(), threading.Event()

    def client() -> None:
        while not stop.is_set():
            versions.add(ask(engine, Recommend(history=HISTORY, k=3)).version)

    with ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(client) for _ in range(3)]
        config = {"epochs": 1, "seed": 7, "encoder": {"hidden_size": 16, "max_len": 8}}
        train(dataset, "sasrec", out=path, config=config, overwrite=True, device="cpu")
        (model,) = engine.reload("m")
        time.sleep(0.1)
        stop.set()
        wait(clients)
        for each in clients:
            each.result()
    assert len(versions) == 2
    assert model.version in versions
    assert "i2" not in ids(ask(engine, Recommend(history=HISTORY, k=100)))
    (path / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(SeqloomError):
        engine.reload()
    assert ask(engine, Recommend(history=HISTORY)).version == model.version
    engine.close()


def test_close_answers_what_was_accepted(runs: dict[str, Path], store: SqliteStore) -> None:
    engine = Engine(runs, store)
    futures = [engine.submit("sasrec", Recommend(history=HISTORY)) for _ in range(200)]
    engine.close()
    assert all(len(future.result(0).items) == 10 for future in futures)
    with pytest.raises(ClosedError):
        engine.submit(None, Recommend(history=HISTORY))


class Recorder:
    """A scheduler over one lane whose handler waits until it may go on."""

    def __init__(self, **config: Any) -> None:
        self.go, self.started = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []
        self.scheduler = Scheduler(EngineConfig(**config), 1, lambda *_: None)
        self.lane = Lane("m", self.handle, 4)
        self.scheduler.add(self.lane)

    def handle(self, payloads: Any) -> list[Any]:
        self.started.set()
        self.go.wait(10)
        self.batches.append(list(payloads))
        return [ValueError("bad") if p < 0 else p * 10 for p in payloads]


def test_waiting_requests_become_one_batch() -> None:
    it = Recorder(max_wait_ms=0)
    first = it.scheduler.submit(it.lane, 0)
    it.started.wait(5)
    others = [it.scheduler.submit(it.lane, n) for n in range(1, 7)]
    it.go.set()
    assert [f.result(5) for f in (first, *others)] == [0, 10, 20, 30, 40, 50, 60]
    assert it.batches == [[0], [1, 2, 3, 4], [5, 6]]
    it.scheduler.close()


def test_a_full_queue_refuses_and_a_cancelled_request_is_left_out() -> None:
    it = Recorder(max_queue=2)
    it.scheduler.submit(it.lane, 0)
    it.started.wait(5)
    one, two = it.scheduler.submit(it.lane, 1), it.scheduler.submit(it.lane, 2)
    with pytest.raises(OverloadedError):
        it.scheduler.submit(it.lane, 3)
    assert one.cancel()
    it.go.set()
    assert two.result(5) == 20
    assert it.batches[-1] == [2]
    it.scheduler.close()


def test_one_fault_in_a_batch_is_its_own() -> None:
    it = Recorder()
    it.scheduler.submit(it.lane, 0)
    it.started.wait(5)
    bad, good = it.scheduler.submit(it.lane, -1), it.scheduler.submit(it.lane, 5)
    it.go.set()
    assert good.result(5) == 50
    with pytest.raises(ValueError, match="bad"):
        bad.result(5)
    it.scheduler.close()
