from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import torch

from seqloom.core.errors import ConfigError, EmbeddingError
from seqloom.hub.endpoint import RetryPolicy, Throttle, retry_after_s
from seqloom.text.encoders.endpoint import EndpointEncoder, embeddings_url

KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQLOOM_EMBEDDINGS_URL", "http://user:pass@host/v1")
    monkeypatch.setenv("SEQLOOM_EMBEDDINGS_KEY", KEY)


class Service:
    """An endpoint that gives [length of the text, 1]; `answers` come first."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        texts = json.loads(request.content)["input"]
        data = [{"index": i, "embedding": [len(t), 1.0]} for i, t in enumerate(texts)]
        return httpx.Response(200, json={"data": data[::-1]})


def build(service: Service, pauses: list[Any] | None = None, **options: Any) -> EndpointEncoder:
    retry = RetryPolicy(retries=3, sleep=(pauses if pauses is not None else []).append)
    transport = httpx.MockTransport(service)
    return EndpointEncoder("m", retry=retry, transport=transport, concurrency=1, **options)


def test_texts_go_in_batches_and_come_back_in_order() -> None:
    service = Service()
    vectors = build(service, batch_size=2).encode(["a", "bbb", "cc"])
    assert torch.equal(vectors, torch.tensor([[1.0, 1.0], [3.0, 1.0], [2.0, 1.0]]))
    assert [json.loads(r.content)["input"] for r in service.requests] == [["a", "bbb"], ["cc"]]
    assert str(service.requests[0].url).endswith("host/v1/embeddings")
    assert service.requests[0].headers["Authorization"] == f"Bearer {KEY}"


def test_many_requests_at_a_time_keep_the_order() -> None:
    encoder = EndpointEncoder(
        "m", batch_size=3, concurrency=8, transport=httpx.MockTransport(Service())
    )
    texts = ["x" * n for n in range(1, 101)]
    assert encoder.encode(texts)[:, 0].tolist() == list(range(1, 101))


def test_faults_that_pass_are_retried_with_growing_pauses() -> None:
    pauses: list[Any] = []
    service = Service(
        httpx.Response(429, headers={"Retry-After": "7"}),
        httpx.Response(503),
        httpx.ReadTimeout("slow"),
    )
    assert build(service, pauses).encode(["a"]).shape == (1, 2)
    assert pauses[0] == 7
    assert 2 <= pauses[1] <= 2.5
    assert 4 <= pauses[2] <= 5


def test_it_gives_up_in_the_end() -> None:
    with pytest.raises(EmbeddingError, match=r"failed 4 times.*HTTP 500"):
        build(Service(*[httpx.Response(500, text="oops")] * 4)).encode(["a"])


def test_a_refusal_is_not_retried_and_a_long_pause_ends_the_run() -> None:
    pauses: list[Any] = []
    with pytest.raises(EmbeddingError, match=r"refused.*HTTP 401: no such \*\*\*"):
        build(Service(httpx.Response(401, text=f"no such {KEY}")), pauses).encode(["a"])
    busy = httpx.Response(429, headers={"Retry-After": "3600"})
    with pytest.raises(EmbeddingError, match="asks to wait 3600 s"):
        build(Service(busy), pauses).encode(["a"])
    assert pauses == []


@pytest.mark.parametrize(
    "answer",
    [
        {"data": []},
        {"data": [{"index": 1, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": "text"}]},
        {"error": "x"},
        [],
    ],
)
def test_an_answer_without_embeddings_is_refused(
    answer: dict[str, list[dict[str, object]]] | dict[str, str],
) -> None:
    with pytest.raises(EmbeddingError, match="host/v1/embeddings"):
        build(Service(httpx.Response(200, json=answer))).encode(["a"])


def test_an_answer_that_is_no_json_is_refused() -> None:
    with pytest.raises(EmbeddingError, match="not JSON"):
        build(Service(httpx.Response(200, text="<html>"))).encode(["a"])


def test_the_key_is_kept_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    encoder = build(Service())
    encoder.encode(["a"])
    reported = json.dumps(encoder.provenance()) + caplog.text + repr(vars(encoder))
    assert KEY not in reported
    assert "pass" not in json.dumps(encoder.provenance())


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("http://h", "http://h/v1/embeddings"),
        ("http://h/v1/", "http://h/v1/embeddings"),
        ("https://h/api/v2", "https://h/api/v2/embeddings"),
        ("https://h/v1/embeddings", "https://h/v1/embeddings"),
    ],
)
def test_the_address_is_found_under_any_usual_base(base: str, expected: str) -> None:
    assert embeddings_url(base) == expected


@pytest.mark.parametrize("base", [None, "", "host/v1", "ftp://host"])
def test_a_base_that_is_no_url_is_refused(base: str | None) -> None:
    with pytest.raises(ConfigError, match="SEQLOOM_EMBEDDINGS_URL"):
        embeddings_url(base)


def test_retry_after_is_seconds_or_a_date() -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC)
    assert retry_after_s("2.5") == 2.5
    assert retry_after_s("Mon, 01 Jan 2024 00:00:30 GMT", now) == 30
    assert retry_after_s("Sun, 31 Dec 2023 00:00:00 GMT", now) == 0
    assert retry_after_s("soon") is None
    assert retry_after_s(None) is None


def test_the_rate_limit_spaces_requests_out() -> None:
    pauses: list[Any] = []
    throttle = Throttle(30, clock=lambda: 100.0, sleep=pauses.append)
    for _ in range(3):
        throttle.wait()
    assert pauses == [2.0, 4.0]


def test_somebody_who_waits_is_not_kept_waiting() -> None:
    service = Service(*(httpx.Response(503) for _ in range(9)))
    encoder = EndpointEncoder("m", transport=httpx.MockTransport(service)).interactive()
    with pytest.raises(EmbeddingError, match="2 times"):
        encoder.encode(["a"])
    assert len(service.requests) == 2
