"""The interface over HTTP, in one process: replies, errors, limits, events, catalogue, reload."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fastapi.testclient import TestClient

from seqloom.data.store import Dataset
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.prepare import prepare
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.serving.config import LimitsConfig, ServerConfig
from seqloom.serving.engine.engine import Engine
from seqloom.serving.http import replies
from seqloom.serving.http.app import build_app
from seqloom.serving.http.metrics import Metrics
from seqloom.serving.importing import import_histories
from seqloom.serving.store.base import Event
from seqloom.serving.store.sqlite import SqliteStore
from support.live_server import ids, post

HISTORY = ["i3", "i7", "i11"]
LIMITS = LimitsConfig(max_k=50, max_history=20, max_batch=4, max_events=5, max_body_bytes=5000)


@pytest.fixture(scope="module")
def server(
    runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TestClient, Engine, SqliteStore]]:
    """A client, and what is behind it."""
    store = SqliteStore(tmp_path_factory.mktemp("http") / "s.db")
    metrics = Metrics()
    engine = Engine(runs, store, observer=metrics)
    app = build_app(ServerConfig(limits=LIMITS, auth=False), engine, store, metrics)
    with TestClient(app, base_url="http://localhost") as client:
        yield client, engine, store
    engine.close()
    store.close()


@pytest.fixture
def client(server: tuple[TestClient, Engine, SqliteStore]) -> TestClient:
    return server[0]


def is_problem(answer: Any, status: int, kind: str) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    reported = answer.json()
    assert reported["type"] == f"urn:seqloom:problem:{kind}"
    assert reported["status"] == status
    assert reported["request_id"] == answer.headers["x-request-id"]
    return reported


@pytest.mark.parametrize("model", ["llmesr", "sasrec", "itemknn", "popularity"])
def test_recommend_is_that_of_the_library(
    model: str, client: TestClient, runs: dict[str, Path]
) -> None:
    reply = post(client, "recommend", history=HISTORY, k=5, model=model)
    run = load_run(runs[model])
    assert ids(reply) == [i.item_id for i in run.recommend([HISTORY], k=5)[0].items]
    assert reply["model"] == model
    assert reply["version"] == run.manifest.weights_sha256[:12]


def test_a_new_user_gets_from_the_server_what_the_library_gives(
    client: TestClient, runs: dict[str, Path]
) -> None:
    for model in ("llmesr", "popularity"):
        reply = post(client, "recommend", history=[], k=5, model=model)
        (expected,) = load_run(runs[model]).recommend([[]], k=5)
        assert ids(reply) == [i.item_id for i in expected.items]
        assert reply["fallback"] == "the user has no history"


def test_a_run_without_item_texts_is_served(tmp_path: Path) -> None:
    log = pl.DataFrame(
        {"user_id": [f"u{n // 4}" for n in range(24)], "item_id": [f"i{n % 7}" for n in range(24)]}
    )
    prepare(log, tmp_path / "data", options=PrepareOptions(min_count=0))
    train(tmp_path / "data", "itemknn", out=tmp_path / "run", device="cpu")
    store = SqliteStore(tmp_path / "s.db")
    engine = Engine({"plain": tmp_path / "run"}, store)
    app = build_app(ServerConfig(limits=LIMITS, auth=False), engine, store, Metrics())
    with TestClient(app, base_url="http://localhost") as client:
        (reported,) = client.get("/v1/models").json()["models"]
        assert reported["columns"] == []
        actual = client.get("/v1/items/i3")
        assert actual.status_code == 200, actual.text
        assert post(client, "recommend", history=["i3"], k=2, details=True)["items"]
    engine.close()
    store.close()


def test_details_are_given_on_request(client: TestClient) -> None:
    plain = post(client, "recommend", history=HISTORY)["items"][0]
    assert set(plain) == {"item_id", "score"}
    item = post(client, "recommend", history=HISTORY, details=True)["items"][0]
    assert item["title"].endswith(item["item_id"][1:])
    assert item["tail"] in (True, False)


def test_unknown_items_are_reported_and_not_fatal(client: TestClient) -> None:
    reply = post(client, "recommend", history=[*HISTORY, "zz"], exclude=["yy"])
    assert reply["unknown"] == {"history": ["zz"], "exclude": ["yy"]}
    assert reply["history_length"] == 3


def test_nobody_gets_the_popular_items(client: TestClient) -> None:
    reply = post(client, "recommend", user_id="nobody at all")
    assert reply["fallback"]
    assert len(ids(reply)) == 10


def test_a_batch_is_its_requests_one_by_one(client: TestClient) -> None:
    requests: Any = [
        {"history": HISTORY, "k": 3},
        {"user_id": "x"},
        {"history": ["i1"], "model": "no"},
    ]
    first, second, third = post(client, "recommend/batch", requests=requests)["results"]
    assert first == post(client, "recommend", **requests[0])
    assert second["fallback"]
    assert third["type"] == "urn:seqloom:problem:unknown-model"


def test_events_show_in_the_next_list_and_are_erased(client: TestClient) -> None:
    reported = post(
        client,
        "events",
        events=[{"user_id": "eve/é", "item_id": i, "timestamp": n} for n, i in enumerate(HISTORY)],
    )
    assert reported == {"accepted": 3, "unknown_items": []}
    whole = post(client, "recommend", history=HISTORY, k=40)
    assert post(client, "recommend", user_id="eve/é", k=40) == whole
    best = ids(whole)[0]
    post(client, "events", events=[{"user_id": "eve/é", "item_id": best}])
    assert best not in ids(post(client, "recommend", user_id="eve/é", k=40))
    kept = client.get("/v1/users/eve%2F%C3%A9").json()
    assert [e["item_id"] for e in kept["history"]] == [*HISTORY, best]
    assert kept["history"][0]["timestamp"] == 0
    assert client.get("/v1/users", params={"prefix": "eve"}).json() == {"users": ["eve/é"]}
    assert client.delete("/v1/users/eve%2F%C3%A9").json()["erased"] == 4
    is_problem(client.get("/v1/users/eve%2F%C3%A9"), 404, "unknown-user")
    assert client.delete("/v1/users/eve%2F%C3%A9").json()["erased"] == 0


def test_events_of_unknown_items_are_kept_and_named(client: TestClient) -> None:
    events = [{"user_id": "k", "item_id": item} for item in ("later", "i1")]
    assert post(client, "events", events=events) == {"accepted": 2, "unknown_items": ["later"]}
    assert len(client.get("/v1/users/k").json()["history"]) == 2


def test_an_event_that_is_known_counts_once_and_is_reported(client: TestClient) -> None:
    event = {"user_id": "zoe", "item_id": "i1", "timestamp": 1_600_000_000}
    assert post(client, "events", events=[event]) == {"accepted": 1, "unknown_items": []}
    more = {"events": [event, {**event, "timestamp": 1_600_000_001}, event]}
    for _ in range(2):
        answer = client.post("/v1/events", json=more, headers={"Idempotency-Key": "zoe"}).json()
        assert answer == {"accepted": 3, "unknown_items": [], "repeated": 2}
    history = client.get("/v1/users/zoe").json()["history"]
    assert [each["timestamp"] for each in history] == [1_600_000_000, 1_600_000_001]


def test_times_in_other_units_are_in_their_order(client: TestClient) -> None:
    client.delete("/v1/users/ms")
    times = {
        "i1": 1_700_000_000_000,
        "i2": "2023-11-14T22:13:21Z",
        "i3": 1_700_000_002.5,
        "i4": None,
    }
    for item, at in times.items():
        post(client, "events", events=[{"user_id": "ms", "item_id": item, "timestamp": at}])
    history = client.get("/v1/users/ms").json()["history"]
    assert [e["item_id"] for e in history] == list(times)
    assert [e["timestamp"] for e in history[:3]] == [1_700_000_000 + n for n in range(3)]
    future = {"events": [{"user_id": "ms", "item_id": "i5", "timestamp": 99_999_999_999}]}
    problem = is_problem(client.post("/v1/events", json=future), 422, "invalid")
    assert "body/events/0/timestamp" in str(problem)
    for bad in (True, [1], {"s": 1}, "2023-11-14 25:00", "x" * 65):
        event = {"user_id": "ms", "item_id": "i5", "timestamp": bad}
        is_problem(client.post("/v1/events", json={"events": [event]}), 422, "invalid")
    assert len(client.get("/v1/users/ms").json()["history"]) == 4


def test_a_retried_post_is_carried_out_once(client: TestClient) -> None:
    body = {"events": [{"user_id": "ike", "item_id": "i1"}]}
    headers = {"Idempotency-Key": "key-1"}
    first = client.post("/v1/events", json=body, headers=headers)
    again = client.post("/v1/events", json=body, headers=headers)
    assert first.json() == again.json() == {"accepted": 1, "unknown_items": []}
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert len(client.get("/v1/users/ike").json()["history"]) == 1
    other = {"events": [{"user_id": "ike", "item_id": "i2"}]}
    is_problem(client.post("/v1/events", json=other, headers=headers), 422, "idempotency-key")


def test_an_item_is_put_in_recommended_and_taken_out(client: TestClient) -> None:
    path = "/v1/items/new%2Fone"
    is_problem(client.get(path), 404, "unknown-item")
    reported = client.put(path, json={"attributes": {"title": "red thing", "colour": "x"}}).json()
    standing = {each["model"]: each for each in reported["models"]}
    assert standing["llmesr"] == {"model": "llmesr", "recommends": True, "reason": None}
    assert "trained on" in standing["sasrec"]["reason"]
    assert reported["unused"] == ["colour"]
    whole: dict[str, Any] = {"history": HISTORY, "k": 50, "model": "llmesr"}
    assert "new/one" in ids(post(client, "recommend", **whole))
    assert post(client, "recommend", history=["new/one"], model="llmesr")["unknown"] == {}
    assert client.get("/v1/items", params={"query": "red th"}).json()["items"][0] == {
        "item_id": "new/one",
        "title": "red thing",
    }
    gone = client.delete(path).json()
    assert not any(each["recommends"] for each in gone["models"])
    assert "new/one" not in ids(post(client, "recommend", **whole))
    assert "new/one" not in client.get("/v1/items?query=red").text


def test_items_of_the_training_are_shown_and_found(client: TestClient) -> None:
    reported = client.get("/v1/items/i5").json()
    assert reported["attributes"] == {"title": "red thing number 5"}
    assert all(each["recommends"] for each in reported["models"])
    actual = client.get("/v1/items", params={"query": "numb 5 RED"}).json()["items"]
    assert actual == [{"item_id": "i5", "title": "red thing number 5"}]
    assert client.get("/v1/items", params={"query": "zzz"}).json() == {"items": []}


def test_similar_and_explain(client: TestClient) -> None:
    similar = client.get("/v1/similar/i5", params={"k": 3, "model": "llmesr"}).json()
    assert len(similar["items"]) == 3
    is_problem(client.get("/v1/similar/zz"), 404, "unknown-item")
    reported = post(client, "explain", history=HISTORY, model="llmesr")
    assert {each["item_id"] for each in reported["history"]} == set(HISTORY)
    assert set(reported["views"]) == {"collaborative", "semantic"}
    answer = client.post("/v1/explain", json={"user_id": "nobody"})
    is_problem(answer, 422, "nothing-to-explain")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "body"),
        ({"history": ["a"], "user_id": "b"}, "body"),
        ({"history": ["a"], "k": 0}, "body/k"),
        ({"history": ["a"], "k": 51}, "body/k"),
        ({"history": ["a"] * 21}, "body/history"),
        ({"history": ["a\0b"]}, "body/history/0"),
        ({"history": [""]}, "body/history/0"),
        ({"history": ["x" * 513]}, "body/history/0"),
        ({"history": ["a"], "kk": 1}, "body/kk"),
        ({"history": ["a"], "budget_ms": 5}, "body/budget_ms"),
    ],
)
def test_bad_requests_name_the_place(
    client: TestClient, body: dict[str, Any], pointer: str
) -> None:
    reported = is_problem(client.post("/v1/recommend", json=body), 422, "invalid")
    assert reported["errors"][0]["pointer"] == pointer


def test_other_faults(client: TestClient) -> None:
    json_type = {"content-type": "application/json"}
    answer = client.post("/v1/recommend", content=b"{", headers=json_type)
    is_problem(answer, 400, "bad-json")
    is_problem(client.get("/nothing"), 404, "not-found")
    is_problem(client.get("/v1/recommend"), 405, "method-not-allowed")
    answer = client.post("/v1/recommend", json={"history": ["a"], "model": "no"})
    is_problem(answer, 404, "unknown-model")
    answer = client.post("/v1/recommend", content=b"x" * 6000)
    is_problem(answer, 413, "too-large")
    answer = client.post("/v1/recommend", content=iter([b"x" * 3000] * 2), headers=json_type)
    is_problem(answer, 413, "too-large")
    events = [{"user_id": "a", "item_id": "b"}] * 6
    is_problem(client.post("/v1/events", json={"events": events}), 422, "invalid")
    requests = [{"history": ["i1"]}] * 5
    is_problem(client.post("/v1/recommend/batch", json={"requests": requests}), 422, "invalid")


def test_faults_of_the_server_tell_nothing(
    server: tuple[TestClient, Engine, SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _, store = server

    def broken(*_: Any) -> None:
        raise RuntimeError("a secret path")

    monkeypatch.setattr(store, "find_users", broken)
    answer = client.get("/v1/users")
    is_problem(answer, 500, "internal")
    assert "secret" not in answer.text


def test_another_site_cannot_ask_through_a_browser(client: TestClient) -> None:
    headers = {"sec-fetch-site": "cross-site"}
    is_problem(client.post("/v1/recommend", json={}, headers=headers), 403, "cross-site")
    is_problem(client.get("/v1/models", headers={"host": "evil.example"}), 421, "host")
    assert client.get("/v1/models", headers={"host": "127.0.0.1:8000"}).status_code == 200


def test_health_metrics_and_models(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert set(client.get("/readyz").json()["models"]) == {
        "llmesr",
        "sasrec",
        "itemknn",
        "popularity",
    }
    post(client, "recommend", history=["i1"])
    text = client.get("/metrics").text
    for name in ("http_requests_total", "batch_size_bucket", "queue_length", "model_info"):
        assert f"seqloom_{name}" in text
    assert 'route="/v1/recommend"' in text
    models = client.get("/v1/models").json()["models"]
    assert models[0]["model"] == "llmesr"
    assert models[0]["columns"] == ["title"]
    reported = client.get("/v1/models/llmesr/metrics").json()
    assert reported["log"]
    is_problem(client.get("/v1/models/..%2F..%2Fetc/metrics"), 404, "not-found")


def test_reload(client: TestClient) -> None:
    reported = post(client, "admin/reload", model="sasrec")
    assert [m["model"] for m in reported["models"]] == ["sasrec"]
    assert client.post("/v1/admin/reload", json={"model": "no"}).status_code == 404


def test_request_ids_come_back(client: TestClient) -> None:
    assert (
        client.get("/healthz", headers={"x-request-id": "abc.1"}).headers["x-request-id"] == "abc.1"
    )
    assert client.get("/healthz", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"


def test_every_reply_is_as_described(
    client: TestClient, server: tuple[TestClient, Engine, SqliteStore]
) -> None:
    """Endpoints write their replies themselves; the description must not drift from them."""
    server[2].append([Event("doc", "i1", 5)])
    body = {"history": HISTORY, "details": True, "model": "llmesr"}
    events = {"events": [{"user_id": "doc", "item_id": "i2"}]}
    explain = {"history": HISTORY, "model": "llmesr"}
    item = {"attributes": {"title": "t"}}
    calls = [
        ("POST", "recommend", body, replies.ListReply),
        ("POST", "recommend/batch", {"requests": [body]}, replies.BatchReply),
        ("POST", "explain", explain, replies.ExplainReply),
        ("GET", "similar/i5", None, replies.SimilarReply),
        ("POST", "events", events, replies.EventsReply),
        ("GET", "users/doc", None, replies.UserReply),
        ("GET", "users?prefix=d", None, replies.UsersReply),
        ("DELETE", "users/doc", None, replies.EraseReply),
        ("PUT", "items/temp", item, replies.ItemReply),
        ("DELETE", "items/temp", None, replies.ItemReply),
        ("GET", "items?query=red", None, replies.ItemsReply),
        ("GET", "models", None, replies.ModelsReply),
        ("GET", "models/sasrec/metrics", None, replies.MetricsReply),
        ("POST", "admin/reload", {"model": "itemknn"}, replies.ReloadReply),
    ]
    model: Any
    for method, path, document, model in calls:
        answer = client.request(method, f"/v1/{path}", json=document)
        assert answer.status_code == 200, answer.text
        # A key that the description lacks would be lost on the way.
        reported = model.model_validate(answer.json())
        assert reported.model_dump(exclude_unset=True) == answer.json(), path
    schema = client.get("/openapi.json").json()
    listed = schema["paths"]["/v1/recommend"]["post"]["responses"]
    assert "application/problem+json" in listed["422"]["content"]
    assert json.dumps(schema).count("HTTPValidationError") == 0


def test_the_data_sets_users_have_their_histories(
    server: tuple[TestClient, Engine, SqliteStore], dataset: Dataset
) -> None:
    client, engine, store = server
    from seqloom.core.progress import SILENT

    assert import_histories(store, engine.models.values(), SILENT) == dataset.num_events
    assert import_histories(store, engine.models.values(), SILENT) == 0
    start, end = dataset.events.offsets[:2].tolist()
    expected = [f"i{n}" for n in dataset.events.items[start:end].tolist()]
    kept = client.get("/v1/users/u0").json()["history"]
    assert [event["item_id"] for event in kept] == expected
    assert kept[0]["timestamp"] is None


@pytest.mark.parametrize(
    "body",
    [
        '{"history": ["i3", "i7"], "k": 3}',
        '{"user_id": "u4", "details": true, "model": "sasrec"}',
        '{"user_id": "u4", "k": 51}',
        '{"user_id": "u4", "k": 0}',
        '{"user_id": "u4", "history": []}',
        '{"user_id": "u4", "colour": "red"}',
        '{"history": ["i3"], "model": "nope"}',
        '{"history": ["i3"], "budget_ms": 5}',
        '{"user_id": "u4"',
        "[]",
        "",
    ],
)
def test_the_short_way_answers_as_the_usual_one(
    client: TestClient, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = client.post(
        "/v1/recommend",
        content=body,
        headers={"content-type": "application/json; charset=utf-8"},
    )
    # Whatever is in order must not need the usual way.
    if usual.status_code == 200:
        monkeypatch.setattr("fastapi.routing.solve_dependencies", None)
    short = client.post("/v1/recommend", content=body, headers={"content-type": "application/json"})
    assert (short.status_code, short.headers["content-type"]) == (
        usual.status_code,
        usual.headers["content-type"],
    )
    reported, expected = short.json(), usual.json()
    for each in (reported, expected):
        each.pop("request_id", None)
    assert reported == expected
    assert set(short.headers) == set(usual.headers)


def test_the_short_way_is_counted_under_its_route(client: TestClient) -> None:
    def count() -> float:
        for line in client.get("/metrics").text.splitlines():
            if line.startswith("seqloom_http_requests_total") and (
                'route="/v1/recommend"' in line and 'status="200"' in line
            ):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    before = count()
    post(client, "recommend", history=HISTORY)
    assert count() == before + 1


def test_a_body_in_pieces_is_read_whole(client: TestClient) -> None:
    pieces = iter([b'{"history": ["i3", ', b'"i7"], "k": 2}'])
    answer = client.post(
        "/v1/recommend", content=pieces, headers={"content-type": "application/json"}
    )
    assert len(answer.json()["items"]) == 2


def test_a_sentence_steers_the_list_and_the_reply_says_how_it_was_understood(
    client: Any, runs: Any
) -> None:
    for model in ("llmesr", "sasrec", "itemknn", "popularity"):
        body: dict[str, Any] = {
            "history": HISTORY,
            "k": 5,
            "about": "red, not blue",
            "about_weight": 50,
        }
        reply = post(client, "recommend", model=model, **body)
        run = load_run(runs[model])
        expected = run.recommend([HISTORY], k=5, about="red, not blue", about_weight=50)[0]
        assert ids(reply) == [item.item_id for item in expected.items]
        understood = {"wanted": "red", "unwanted": ["blue"], "filters": [], "weight": 50.0}
        assert reply["about"] == understood
    assert "about" not in post(client, "recommend", history=HISTORY)


def test_steered_and_plain_requests_share_a_batch(client: Any) -> None:
    plain: dict[str, Any] = {"history": HISTORY, "k": 5}
    bodies: list[dict[str, Any]] = [
        plain,
        {**plain, "about": "blue thing"},
        {**plain, "about": "red, no red"},
        plain,
    ]
    results = post(client, "recommend/batch", requests=bodies)["results"]
    assert ids(results[0]) == ids(results[3]) == ids(post(client, "recommend", **plain))
    assert ids(results[1]) == ids(post(client, "recommend", **bodies[1]))
    assert results[2]["type"] == "urn:seqloom:problem:about"


def test_a_sentence_that_cannot_be_followed_is_a_problem(client: Any) -> None:
    for about in ("", "red, not red", "please"):
        answer = client.post("/v1/recommend", json={"history": HISTORY, "about": about})
        assert "red" not in is_problem(answer, 422, "about")["detail"]
    too_long = {"history": HISTORY, "about": "a" * 1001}
    is_problem(client.post("/v1/recommend", json=too_long), 422, "invalid")
    too_strong = {"history": HISTORY, "about": "red", "about_weight": 1e9}
    is_problem(client.post("/v1/recommend", json=too_strong), 422, "invalid")


def test_an_explanation_in_words_is_by_templates_without_a_model(client: Any) -> None:
    told = post(client, "explain", history=HISTORY, model="llmesr", words=True)
    words = told["words"]
    assert {each["source"] for each in words["sentences"]} == {"template"}
    assert words["reason"] == "no model is configured"
    carried = [each for each in told["history"] if each["change"] > 0]
    assert all(each["title"] in words["sentences"][0]["text"] for each in carried[:1])
    assert "words" not in post(client, "explain", history=HISTORY, model="llmesr")
