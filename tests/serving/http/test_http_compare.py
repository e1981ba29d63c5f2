"""What-if lists, new items, example users: answered by all models, and nothing is written."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from seqloom.runs.folder import load_run
from seqloom.serving.config import LimitsConfig, ServerConfig
from seqloom.serving.engine.engine import Engine
from seqloom.serving.http import explorer_replies
from seqloom.serving.http.app import build_app
from seqloom.serving.http.metrics import Metrics
from seqloom.serving.importing import import_histories
from seqloom.serving.store.base import Event
from seqloom.serving.store.sqlite import SqliteStore
from support.live_server import ids, post

NEW = {"title": "Brightwater Trowel, long", "brand": "Brightwater", "category": "Garden"}


@pytest.fixture(scope="module")
def server(
    shop: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TestClient, Engine, SqliteStore]]:
    from seqloom.core.progress import SILENT

    store = SqliteStore(tmp_path_factory.mktemp("compare") / "s.db")
    metrics = Metrics()
    engine = Engine(shop, store, observer=metrics)
    import_histories(store, engine.models.values(), SILENT)
    config = ServerConfig(
        limits=LimitsConfig(max_k=50), pictures=("https://pics.example.com",), auth=False
    )
    with TestClient(
        build_app(config, engine, store, metrics), base_url="http://localhost"
    ) as client:
        yield client, engine, store
    engine.close()
    store.close()


@pytest.fixture
def client(server: tuple[TestClient, Engine, SqliteStore]) -> TestClient:
    return server[0]


def history_of(client: TestClient, user: str) -> list[str]:
    return [event["item_id"] for event in client.get(f"/v1/users/{user}").json()["history"]]


def test_lists_are_those_of_recommend_and_ranks_those_of_a_whole_list(client: TestClient) -> None:
    reply = post(client, "compare", user_id="c5", models=["sasrec", "popularity"], k=7)
    for each in reply["models"]:
        alone = post(client, "recommend", user_id="c5", model=each["model"], k=50)
        assert ids(each) == ids(alone)[:7]
        whole = {item: rank for rank, item in enumerate(ids(alone), start=1)}
        ranks = {item: rank for item, rank in each["ranks"].items() if rank <= 50}
        assert ranks == {item: whole[item] for item in ranks}
        assert set(ids(each)) <= set(each["ranks"])
    first, second = (set(ids(each)) for each in reply["models"])
    assert reply["shared"] == len(first & second)
    seen = len(set(history_of(client, "c5")))
    assert reply["models"][0]["rankable"] == 100 - seen


def test_items_have_texts_and_pictures_of_allowed_origins(client: TestClient) -> None:
    item = post(client, "compare", user_id="c5")["models"][0]["items"][0]
    assert item["attributes"].keys() >= {"brand", "category", "price"}
    assert "image_url" not in item["attributes"]
    assert item["picture"] == f"https://pics.example.com/{item['item_id']}.png"
    policy = client.get("/").headers["content-security-policy"]
    assert "img-src 'self' data: https://pics.example.com;" in policy
    assert "unsafe" not in policy


def test_a_trial_is_as_if_it_had_happened(client: TestClient) -> None:
    history = history_of(client, "c7")
    item = ids(post(client, "recommend", user_id="c7", model="sasrec"))[3]
    tried = post(client, "compare", user_id="c7", models=["sasrec"], tried=[item])["models"][0]
    alone = post(client, "recommend", history=[*history, item], model="sasrec")
    assert ids(tried) == ids(alone)
    assert item not in tried["ranks"]
    assert history_of(client, "c7") == history


def test_stepping_back_states_the_rank_of_what_came_next(client: TestClient) -> None:
    history = history_of(client, "c9")
    for back, part in ((1, "test"), (2, "valid"), (3, "train")):
        reply = post(client, "compare", user_id="c9", hide_last=back)
        following = reply["next"]
        assert following["item_id"] == history[-back]
        assert set(following["parts"].values()) == {part}
        before = post(client, "recommend", history=history[:-back], model="sasrec", k=50)
        place = following["ranks"].get("sasrec", 99)
        if place <= 50:
            assert ids(before)[place - 1] == history[-back]
    whole = post(client, "compare", user_id="c9", hide_last=len(history))
    assert whole["next"]["item_id"] == history[0]
    assert whole["models"][0]["fallback"]
    assert "next" not in post(client, "compare", user_id="c9")


def test_an_event_after_the_training_is_told_apart(
    server: tuple[TestClient, Engine, SqliteStore],
) -> None:
    client, _, store = server
    store.append([Event("c11", "ga-00", int(time.time()))])
    rows = client.get("/v1/users/c11?details=true").json()["history"]
    assert [row["part"] for row in rows[-3:]] == ["valid", "test", "after"]
    assert rows[0]["part"] == "train"
    assert rows[0]["attributes"]["brand"]
    assert client.get("/v1/users/c11?details=true&model=nope").status_code == 404


def test_a_sentence_that_cannot_be_followed_is_each_models_problem(client: TestClient) -> None:
    good = post(client, "compare", user_id="c5", about="brand Castellane")
    for each in good["models"]:
        assert {item["attributes"]["brand"] for item in each["items"]} == {"Castellane"}
        assert each["about"]["filters"]
    bad = post(client, "compare", user_id="c5", about="price under 1")
    for each in bad["models"]:
        assert each["problem"]["type"] == "urn:seqloom:problem:about"


def test_an_explanation_says_the_rank_among_what_can_be_recommended(client: TestClient) -> None:
    listed = ids(post(client, "recommend", user_id="c5", model="sasrec"))
    for rank, item in enumerate(listed[:3], start=1):
        reply = post(client, "explain", user_id="c5", item_id=item, model="sasrec")
        assert reply["list_rank"] == rank
        assert reply["rank"] >= rank
    seen = history_of(client, "c5")[-1]
    assert post(client, "explain", user_id="c5", item_id=seen, model="sasrec")["list_rank"] is None


def test_a_preview_is_what_adding_the_item_gives(
    server: tuple[TestClient, Engine, SqliteStore], shop: dict[str, Path]
) -> None:
    client, engine, _ = server
    before = engine.model("llmesr").snapshot
    reply = post(client, "preview", user_id="c5", attributes=NEW)
    llmesr, sasrec = reply["models"]
    assert sasrec["reason"]
    assert sasrec["rank"] is None
    assert llmesr["rankable"] == 101 - len(set(history_of(client, "c5")))
    assert 1 <= llmesr["rank"] <= llmesr["rankable"]
    assert 0 <= llmesr["reached"] <= llmesr["asked"] == 80
    assert any("Brightwater" in item["title"] for item in llmesr["nearest"])
    assert engine.model("llmesr").snapshot is before
    run = load_run(shop["llmesr"])
    run.add_items(pa.Table.from_pylist([{"item_id": "seqloom:preview", **NEW}]))
    listed = run.recommend([history_of(client, "c5")], k=101)[0].items
    assert [item.item_id for item in listed].index("seqloom:preview") + 1 == llmesr["rank"]


def test_a_preview_needs_text(client: TestClient) -> None:
    post(client, "preview", 422, user_id="c5", attributes={})
    post(client, "preview", 422, user_id="c5", attributes={"title": " "})


def test_examples_have_readable_histories_on_which_models_partly_agree(client: TestClient) -> None:
    users = client.get("/v1/examples").json()["users"]
    assert users
    first = users[0]
    assert 20 <= first["events"] <= 50
    assert first["days"] >= 3
    events = client.get(f"/v1/users/{first['user_id']}").json()["history"]
    assert len(events) == first["events"]
    assert post(client, "compare", user_id=first["user_id"])["shared"] == first["shared"]


def test_an_erased_user_is_no_example(client: TestClient) -> None:
    erased = client.get("/v1/examples").json()["users"][-1]["user_id"]
    client.delete(f"/v1/users/{erased}")
    assert erased not in [u["user_id"] for u in client.get("/v1/examples").json()["users"]]


def test_a_store_without_users_has_no_example(shop: dict[str, Path], tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    engine = Engine({"sasrec": shop["sasrec"]}, store)
    app = build_app(ServerConfig(auth=False), engine, store, Metrics())
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/v1/examples").json() == {"users": []}
        reply = post(client, "compare", history=[])
        assert reply["models"][0]["fallback"]
        post(client, "events", events=[{"user_id": "one", "item_id": "ga-00"}])
        (example,) = client.get("/v1/examples").json()["users"]
        assert example == {"user_id": "one", "events": 1, "days": 1, "shared": None}
    engine.close()
    store.close()


def test_nothing_is_written_by_a_trial(server: tuple[TestClient, Engine, SqliteStore]) -> None:
    client, _, store = server

    def state() -> str:
        users = store.find_users("", 1000)
        kept = [(user, store.export(user)) for user in users]
        return hashlib.sha256(repr((kept, store.items_since(0))).encode()).hexdigest()

    before = state()
    post(client, "compare", user_id="c5", tried=["ga-01", "nothing"], hide_last=3, about="a gift")
    post(client, "compare", user_id="unknown", tried=["ga-01"])
    post(client, "preview", user_id="c5", attributes=NEW)
    post(client, "preview", history=["ga-01"], attributes=NEW)
    client.get("/v1/examples")
    client.get("/v1/users/c5?details=true")
    assert state() == before


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user_id": "c5", "history": []},
        {"user_id": "c5", "models": []},
        {"user_id": "c5", "models": ["sasrec"] * 9},
        {"user_id": "c5", "k": 51},
        {"user_id": "c5", "tried": ["a"] * 21},
        {"user_id": "c5", "hide_last": -1},
        {"user_id": "c5", "about": "x" * 5000},
        {"user_id": "c5", "colour": 1},
    ],
)
def test_what_is_too_much_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    post(client, "compare", 422, **body)


def test_an_unknown_model_is_no_model(client: TestClient) -> None:
    post(client, "compare", 404, user_id="c5", models=["nope"])


def test_every_reply_is_as_described(client: TestClient) -> None:
    compare = {"user_id": "c5", "hide_last": 1, "tried": ["ga-01"], "about": "price under 1"}
    calls: list[tuple[str, str, Any, Any]] = [
        ("POST", "compare", {"user_id": "c5", "hide_last": 1}, explorer_replies.CompareReply),
        ("POST", "compare", compare, explorer_replies.CompareReply),
        ("POST", "preview", {"user_id": "c5", "attributes": NEW}, explorer_replies.PreviewReply),
        ("GET", "examples", None, explorer_replies.ExamplesReply),
    ]
    for method, path, document, model in calls:
        answer = client.request(method, f"/v1/{path}", json=document)
        assert answer.status_code == 200, answer.text
        assert model.model_validate(answer.json()).model_dump(exclude_unset=True) == answer.json()


def test_search_forgives_and_says_more_with_details(client: TestClient) -> None:
    def find(query: str) -> list[str]:
        params = {"query": query, "details": "true"}
        return [item["title"] for item in client.get("/v1/items", params=params).json()["items"]]

    assert find("cafe castellane") == ["Castellane Café press"]
    assert find("PRESS brightwter") == ["Brightwater Café press"]
    assert find("🌵") == ["🌵 Cactus mug"]
    assert find("ga-01") == ["Alder & Finch Watering can"]
    users = client.get("/v1/users", params={"prefix": " ANNA-", "forgiving": "true"}).json()
    assert users["users"] == ["Anna-0", "Anna-1", "Anna-2"]
    assert client.get("/v1/users", params={"prefix": "anna"}).json()["users"] == []


def test_tokens_are_needed_as_elsewhere(shop: dict[str, Path], tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    engine = Engine({"sasrec": shop["sasrec"]}, store)
    app = build_app(ServerConfig(auth=True), engine, store, Metrics())
    with TestClient(app, base_url="http://localhost") as client:
        assert client.post("/v1/compare", json={"history": []}).status_code == 401
        body = {"history": [], "attributes": NEW}
        assert client.post("/v1/preview", json=body).status_code == 401
        assert client.get("/v1/examples").status_code == 401
    engine.close()
    store.close()
