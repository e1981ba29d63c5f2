"""A server against clients that send too much, too slowly, nothing, or what is no HTTP."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from seqloom.core.errors import ServingError
from seqloom.serving.config import ServerConfig
from seqloom.serving.server import Server
from support.attacks import (
    GET,
    HOST,
    ask,
    connect,
    drip,
    head,
    post,
    read_all,
    resident_mb,
    running,
)

CLOSE = b"connection: close"
LIST = b'{"history": ["i3"], "k": 2}'
LIMITS = {
    "max_url_bytes": 1000,
    "max_header_bytes": 4096,
    "max_headers": 20,
    "head_timeout_s": 1.0,
    "body_timeout_s": 1.0,
    "idle_timeout_s": 1.0,
    "send_timeout_s": 1.0,
    "min_bytes_per_s": 1000,
}


@pytest.fixture(scope="module")
def server(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of small limits."""
    folder = tmp_path_factory.mktemp("attacked")
    with running({"sasrec": runs["sasrec"]}, folder, connections=LIMITS) as server:
        yield server


@pytest.fixture
def port(server: Server) -> Iterator[int]:
    """Its port; it must answer as ever at the end."""
    yield server.port
    (answer,) = ask(server.port, post("/v1/recommend", LIST, CLOSE))
    assert len(json.loads(answer.body)["items"]) == 2


def ended(port: int, reason: str) -> float:
    """How many connections the server ended for a reason."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    name = f'seqloom_http_connections_ended_total{{reason="{reason}"}}'
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


@pytest.mark.parametrize(
    ("data", "status", "kind"),
    [
        (head("/healthz", *[b"x%d: y" % n for n in range(21)]), 431, "headers"),
        (head("/healthz", b"x: " + b"y" * 4096), 431, "headers"),
        (head("/healthz", b"x" * 5000 + b": y"), 431, "headers"),
        (head("/healthz", *[b"x%d: %s" % (n, b"y" * 500) for n in range(9)]), 431, "headers"),
        (head("/" + "a" * 1000, method="GET"), 414, "url"),
        (b"GET /healthz?" + b"a" * 100_000, 414, "url"),
        (GET[:-2] + b"x: " + b"y" * 100_000, 431, "headers"),
        (GET[:-2] + b"x: y\r\n" * 20_000, 431, "headers"),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400, "bad-request"),
        (b"no http at all\r\n\r\n", 400, "bad-request"),
        (b"GET /caf\xe9 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad-request"),
        (b"GET /caf\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad-request"),
        (head("/v1/items/a#b", CLOSE, method="GET"), 400, "encoding"),
        (head("/v1/items/caf%E9", CLOSE, method="PUT"), 400, "encoding"),
        (head("/healthz", b"x: \xe9", CLOSE, method="GET"), 400, "encoding"),
        (b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n", 400, "encoding"),
        (GET[:-2] + HOST + CLOSE + b"\r\n\r\n", 400, "encoding"),
        (head("/healthz", b"x: a\x00b", method="GET"), 400, "bad-request"),
        (head("/healthz", b"x : a", method="GET"), 400, "bad-request"),
        (b"CONNECT a.example:443 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad-request"),
        (head("/v1/recommend", b"content-length: -1"), 400, "bad-request"),
        (head("/v1/recommend", b"content-length: 1", b"content-length: 2"), 400, "bad-request"),
        (head("/v1/recommend", b"content-length: 99999999999999999999"), 400, "bad-request"),
        (head("/v1/recommend", b"content-length: 99999999", CLOSE), 413, "too-large"),
        (head("/v1/recommend", b"content-length: 5", b"transfer-encoding: chunked") + b"0\r\n\r\n",
         400, "bad-request"),
        (head("/v1/recommend", b"transfer-encoding: chunked") + b"zz\r\n", 400, "bad-request"),
        (head("/v1/recommend", b"transfer-encoding: chunked") + b"1;" + b"x" * 100_000, 400,
         "bad-request"),
        (head("/v1/recommend", b"transfer-encoding: chunked") + b"1;x=y\r\n{\r\n1\r\n \r\n0\r\n"
         + b"a: b\r\n" * 20_000, 400, "bad-request"),
        (post("/v1/recommend", LIST, b"connection: upgrade", b"upgrade: h2c"), 400, "bad-request"),
    ],
)  # fmt: skip
def test_bytes_that_are_refused(port: int, data: bytes, status: int, kind: str) -> None:
    (answer,) = ask(port, data)
    assert answer.status == status, answer
    assert answer.problem() == kind
    assert answer.headers["connection"] == "close" or CLOSE in data


def test_what_is_within_the_limits_is_answered(port: int) -> None:
    chunked = b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in LIST) + b"0\r\n\r\n"
    json_type = b"content-type: application/json"
    answered = [
        head("/healthz", *[b"x%d: y" % n for n in range(18)], CLOSE, method="GET"),
        head("/healthz?" + "a" * 980, CLOSE, method="GET"),
        b"GET /healthz HTTP/1.0\r\n\r\n",
        head("/v1/recommend", json_type, b"transfer-encoding: chunked", CLOSE) + chunked,
        head("/healthz", b"connection: upgrade, close", b"upgrade: websocket", method="GET"),
        b"GET http://localhost/healthz HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n\r\n",
    ]
    for data in answered:
        (answer,) = ask(port, data)
        assert answer.status == 200, (data, answer)


def test_trailers_are_no_headers(port: int) -> None:
    """Else a body could bring a header after the headers were checked."""
    start = head("/v1/recommend", b"transfer-encoding: chunked", CLOSE)
    body = b"%x\r\n%s\r\n0\r\ncontent-type: application/json\r\n\r\n" % (len(LIST), LIST)
    (answer,) = ask(port, start + body)
    assert answer.status == 422  # the body is not JSON by its headers


def test_what_follows_an_upgrade_is_no_request(port: int) -> None:
    start = head("/healthz", b"connection: upgrade", b"upgrade: websocket", method="GET")
    with connect(port) as connection:
        connection.sendall(start)
        time.sleep(0.05)
        connection.sendall(GET)
        assert [answer.status for answer in read_all(connection)] == [200]
    start = head("/v1/recommend", b"connection: upgrade", b"upgrade: h2c")
    assert [answer.status for answer in ask(port, start)] == [422]  # it has no body


def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    answers = ask(port, GET + post("/v1/recommend", LIST) + head("/no", CLOSE, method="GET"))
    assert [answer.status for answer in answers] == [200, 200, 404]
    # What is damaged is refused behind the answers to what was whole, and never in their place.
    answers = ask(port, post("/v1/recommend", LIST) + b"rubbish\r\n\r\n" + GET)
    assert [answer.status for answer in answers] == [200]
    assert answers[0].headers["connection"] == "close"
    chunked = head("/v1/recommend", b"transfer-encoding: chunked")
    answers = ask(port, post("/v1/recommend", LIST) + chunked + b"zz\r\n")
    assert [answer.status for answer in answers] == [200, 400]
    assert answers[1].problem() == "bad-request"


def test_a_flood_of_pipelined_requests_is_cut(port: int) -> None:
    before = resident_mb()
    answers = ask(port, GET * 100_000)
    assert 1 <= len(answers) <= 17
    assert {answer.status for answer in answers} == {200}
    assert resident_mb() - before < 20


def test_a_header_without_an_end_takes_no_memory(port: int) -> None:
    before = peak = resident_mb()
    for start in (b"GET /", GET[:-2] + b"x: ", GET[:-2] + b"x"):
        with connect(port) as connection:
            connection.sendall(start)
            with contextlib.suppress(ConnectionError):
                for _ in range(100):
                    connection.sendall(b"a" * (1 << 18))
                    peak = max(peak, resident_mb())
    assert peak - before < 10


def test_silent_connections_are_closed(port: int) -> None:
    before = ended(port, "timeout")
    with connect(port) as silent, connect(port) as started, connect(port) as idle:
        started.sendall(GET[:20])
        idle.sendall(GET)
        began = time.monotonic()
        answers = [read_all(each) for each in (silent, started, idle)]
        assert 0.5 < time.monotonic() - began < 6
    assert answers[0] == []
    assert [answer.problem() for answer in answers[1]] == ["timeout"]
    assert answers[1][0].status == 408
    assert [answer.status for answer in answers[2]] == [200]
    assert ended(port, "timeout") == before + 2


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"GET /healthz HTTP/1.1\r\n", b"a: b\r\n"),
        (b"", b"\r\n"),
        (GET, b"\r\n"),
        (head("/v1/recommend", b"content-length: 1000"), b" "),
        (head("/v1/recommend", b"transfer-encoding: chunked"), b"1\r\n \r\n"),
        (head("/v1/recommend", b"transfer-encoding: chunked") + b"5;", b"x"),
        (head("/no", b"content-length: 1000"), b" "),
    ],
    ids=["headers", "lines", "after an answer", "body", "chunks", "extension", "after a 404"],
)
def test_slow_senders_are_ended(port: int, start: bytes, piece: bytes) -> None:
    with connect(port) as connection:
        connection.sendall(start)
        assert 0.5 < drip(connection, piece, 0.05, 200) < 8


def test_a_body_that_is_quick_enough_may_take_long(port: int) -> None:
    body = LIST + b" " * 7500
    with connect(port) as connection:
        connection.sendall(post("/v1/recommend", body, CLOSE)[: -len(body)])
        began = time.monotonic()
        for start in range(0, len(body), 150):
            connection.sendall(body[start : start + 150])
            time.sleep(0.05)
        assert time.monotonic() - began > 2 * LIMITS["body_timeout_s"]
        assert [answer.status for answer in read_all(connection)] == [200]


def test_a_slow_body_gets_408_and_is_not_kept(port: int) -> None:
    body = b'{"events": [{"user_id": "slow", "item_id": "i3"}]}'
    with connect(port) as connection:
        connection.sendall(post("/v1/events", body + b" ")[:-1])
        (answer,) = read_all(connection)
    assert (answer.status, answer.problem()) == (408, "timeout")
    assert httpx.get(f"http://127.0.0.1:{port}/v1/users/slow").status_code == 404


def test_a_client_that_leaves_in_the_middle_of_a_body_is_not_served(port: int) -> None:
    body = b'{"events": [{"user_id": "gone", "item_id": "i3"}]}'
    with connect(port) as connection:
        connection.sendall(post("/v1/events", body + b" ")[:-1])
    time.sleep(0.1)
    assert httpx.get(f"http://127.0.0.1:{port}/v1/users/gone").status_code == 404


def test_a_slow_reader_is_ended(port: int) -> None:
    before = ended(port, "slow reader")
    with connect(port) as connection:
        for _ in range(200):  # until the buffers of both sides are full
            connection.sendall(head("/openapi.json", method="GET"))
            time.sleep(0.005)
        until = time.monotonic() + 10
        while ended(port, "slow reader") == before:
            assert time.monotonic() < until
            time.sleep(0.05)


@pytest.fixture
def small(runs: dict[str, Path], tmp_path: Path) -> Iterator[int]:
    """A server of ten connections."""
    limits = {"max_connections": 10, "head_timeout_s": 30, "max_per_address": 6}
    with running({"sasrec": runs["sasrec"]}, tmp_path, connections=limits) as server:
        yield server.port


def healthy(port: int, **options: Any) -> None:
    for path in ("/healthz", "/readyz"):
        answers = ask(port, head(path, CLOSE, method="GET"), **options)
        assert [answer.status for answer in answers] == [200]


def test_silent_connections_give_way(small: int) -> None:
    silent = [connect(small, f"127.0.0.{n % 5 + 1}") for n in range(40)]
    healthy(small, source="127.0.0.9")
    (answer,) = ask(small, post("/v1/recommend", LIST, CLOSE), source="127.0.0.9")
    assert answer.status == 200
    for each in silent:
        each.close()


def test_one_address_takes_no_place_of_another(small: int) -> None:
    with connect(small, "127.0.0.2") as kept:
        kept.sendall(GET)
        assert kept.recv(1 << 16).startswith(b"HTTP/1.1 200")
        silent = [connect(small) for _ in range(40)]
        healthy(small)
        kept.sendall(head("/healthz", CLOSE, method="GET"))
        assert [answer.status for answer in read_all(kept)] == [200]
        for each in silent:
            each.close()


def busy(port: int, source: str) -> socket.socket:
    """A connection with a request under way: its body does not end."""
    connection = connect(port, source)
    connection.sendall(
        head("/v1/recommend", b"content-type: application/json", b"content-length: 9")
    )
    return connection


def test_where_all_are_busy_health_checks_alone_are_answered(small: int) -> None:
    held = [busy(small, f"127.0.0.{2 + n % 2}") for n in range(10)]
    time.sleep(0.1)
    spare = [connect(small, "127.0.0.4") for _ in range(30)]
    healthy(small, source="127.0.0.5")
    answers = ask(small, post("/v1/recommend", LIST), source="127.0.0.5")
    assert [(answer.status, answer.problem()) for answer in answers] == [(503, "connections")]
    assert answers[0].headers["retry-after"] == "1"
    for each in (*held, *spare):
        each.close()


def test_one_address_has_a_share_and_a_trusted_proxy_has_not(
    runs: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = {"max_connections": 20, "max_per_address": 3, "trusted_proxies": ["127.0.0.8/29"]}
    with running({"sasrec": runs["sasrec"]}, tmp_path, connections=limits) as server:
        held = [busy(server.port, "127.0.0.1") for _ in range(3)]
        held += [busy(server.port, "127.0.0.9") for _ in range(6)]
        time.sleep(0.1)
        data = post("/v1/recommend", LIST, CLOSE)
        assert ask(server.port, data)[0].problem() == "connections"
        assert ask(server.port, data, source="127.0.0.9")[0].status == 200
        assert ask(server.port, data, source="127.0.0.2")[0].status == 200
        healthy(server.port)
        for each in held:
            each.close()
    logged: Any
    (logged,) = [r for r in caplog.records if r.msg == "one address is at its limit of connections"]
    assert logged.fields["address"] == "127.0.0.1"
    assert "trusted_proxies" in logged.fields["advice"]


def test_few_open_files_are_enough(
    runs: dict[str, Path], serve: Callable[..., Any], tmp_path: Path
) -> None:
    """150 silent connections at 100 open files: health checks and lists are answered, nothing runs out."""
    server = serve(str(runs["sasrec"]), open_files=100)
    silent = []
    for _ in range(3):
        silent += [connect(server.port) for _ in range(50)]
        healthy(server.port)
        (answer,) = ask(server.port, post("/v1/recommend", LIST, CLOSE))
        assert answer.status == 200
    with ThreadPoolExecutor(8) as pool:
        read = [pool.submit(httpx.get, f"{server.url}/v1/users/u{n}") for n in range(40)]
        assert {each.result().status_code for each in read} == {200}
    for each in silent:
        each.close()
    assert server.stop() == 0
    log = (tmp_path / "server.log").read_text()
    assert "Too many open files" not in log
    assert "fewer connections than configured" in log


def test_too_few_open_files_are_an_error(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (48, 48))
    with pytest.raises(ServingError, match=r"open files is 48.*ulimit -n"):
        Server(runs, ServerConfig(port=0, store=f"sqlite:///{tmp_path / 's.db'}"))


@pytest.mark.slow
def test_a_flood_of_silent_connections_shuts_no_client_out(
    runs: dict[str, Path], serve: Callable[..., Any], tmp_path: Path
) -> None:
    """Two threads open connections as fast as they can, for 15 s, at 100 open files."""
    server = serve(str(runs["sasrec"]), open_files=100)
    stop = threading.Event()
    opened: list[Any] = []

    def flood() -> None:
        held = []
        while not stop.is_set():
            with contextlib.suppress(OSError):
                held.append(connect(server.port))
                opened.append(None)
            if len(held) > 200:
                held.pop(0).close()

    answered, requested = 0, 0
    with ThreadPoolExecutor(2) as pool:
        floods = [pool.submit(flood) for _ in range(2)]
        ends = time.monotonic() + 15
        while time.monotonic() < ends:
            requested += 1
            with contextlib.suppress(OSError):
                answers = ask(
                    server.port, head("/healthz", CLOSE, method="GET"), source="127.0.0.2"
                )
                answered += [answer.status for answer in answers] == [200]
        stop.set()
        for each in floods:
            each.result()
    assert len(opened) > 500
    assert answered == requested > 5
    assert server.stop() == 0
    assert "Too many open files" not in (tmp_path / "server.log").read_text()
