"""The server as a process: started by its command, killed, stopped and reloaded by signals."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from seqloom.core.errors import ServingError
from seqloom.data.store import Dataset
from seqloom.serving.store.sqlite import SqliteStore
from support.servers import free_port

HISTORY = {"history": ["i3", "i7"]}


@pytest.fixture
def run(runs: dict[str, Path], tmp_path: Path) -> Path:
    """A run of its own, which may be overwritten."""
    return Path(shutil.copytree(runs["sasrec"], tmp_path / "model"))


def test_it_answers_and_stops_on_a_signal(serve: Callable[..., Any], run: Path) -> None:
    server = serve(str(run), f"again={run}")
    assert [each["model"] for each in server.summary["models"]] == ["model", "again"]
    assert not server.summary["tokens"]
    reply = httpx.post(f"{server.url}/v1/recommend", json={"user_id": "u0", "model": "again"})
    assert reply.json()["fallback"] is None  # the data set's users have their histories
    assert server.stop() == 0


def test_it_stops_as_soon_as_its_address_is_known(serve: Callable[..., Any], run: Path) -> None:
    """The server waits between its address and its first request, as on a busy machine."""
    slow = "import time, seqloom.serving.logs as l; l.configure_logs = lambda **_: time.sleep(1); "
    server = serve(str(run), before=slow)
    assert server.port
    assert server.stop() == 0


def test_a_request_under_way_is_answered_at_the_end(serve: Callable[..., Any], run: Path) -> None:
    server = serve(str(run))
    with httpx.Client(base_url=server.url) as client:
        client.get("/healthz")
        body = {"requests": [HISTORY] * 250}
        with ThreadPoolExecutor(1) as pool:
            requested = pool.submit(client.post, "/v1/recommend/batch", json=body)
            time.sleep(0.005)
            code = server.stop()
            reply = requested.result()
    assert code == 0
    assert len(reply.json()["results"]) == 250


def test_reload_by_signal_under_load_fails_no_request(
    serve: Callable[..., Any], run: Path, dataset: Dataset
) -> None:
    from seqloom.pipelines.train.train import train

    server = serve(str(run))
    versions, faults, stop = set(), [], threading.Event()

    def load() -> None:
        with httpx.Client(base_url=server.url) as client:
            while not stop.is_set():
                reply = client.post("/v1/recommend", json=HISTORY)
                if reply.status_code != 200:
                    faults.append(reply.text)
                versions.add(reply.json().get("version"))

    with ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(load) for _ in range(3)]
        config = {"epochs": 1, "seed": 9, "encoder": {"hidden_size": 16, "max_len": 8}}
        train(dataset, "sasrec", out=run, config=config, overwrite=True, device="cpu")
        server.process.send_signal(signal.SIGHUP)
        ends = time.monotonic() + 20
        while len(versions) < 2 and time.monotonic() < ends:
            time.sleep(0.02)
        (run / "weights.safetensors").write_bytes(b"damaged")
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        stop.set()
        for each in clients:
            each.result()
    assert faults == []
    assert len(versions) == 2
    assert server.stop() == 0


def kill_under_load(serve: Callable[..., Any], run: Path, after: int, prefix: str) -> set[str]:
    """Post events from three clients, kill the server after so many items were acknowledged.

    Gives all that were acknowledged.
    """
    server = serve(str(run))
    kept: set[str] = set()

    def post(number: int) -> None:
        with contextlib.suppress(httpx.HTTPError), httpx.Client(base_url=server.url) as client:
            for count in range(100_000):
                items = [f"{prefix}-{number}-{count}-{part}" for part in range(3)]
                events = [{"user_id": f"k{number}", "item_id": item} for item in items]
                if client.post("/v1/events", json={"events": events}).status_code == 200:
                    kept.update(items)

    with ThreadPoolExecutor(3) as pool:
        posts = [pool.submit(post, number) for number in range(3)]
        ends = time.monotonic() + 30
        while len(kept) < after and time.monotonic() < ends:
            time.sleep(0.001)
        server.stop(signal.SIGKILL)
        for each in posts:
            each.result()
    return kept


def check_kept(folder: Path, acknowledged: set[str]) -> None:
    store = SqliteStore(folder / "store.db")
    rows = store.histories(["k0", "k1", "k2"], 10_000_000)
    store.close()
    actual = [item for items in rows.values() for item in items]
    assert acknowledged <= set(actual)
    assert len(actual) == len(set(actual))
    # A post is kept whole or not at all.
    assert len(actual) % 3 == 0


def test_kill_loses_no_acknowledged_event(
    serve: Callable[..., Any], run: Path, tmp_path: Path
) -> None:
    kept = set()
    for number in range(2):
        kept |= kill_under_load(serve, run, 20 + 31 * number, f"a{number}")
    assert len(kept) > 70
    check_kept(tmp_path, kept)


@pytest.mark.slow
def test_kill_loses_no_acknowledged_event_twenty_times(
    serve: Callable[..., Any], run: Path, tmp_path: Path
) -> None:
    kept = set()
    for number in range(20):
        kept |= kill_under_load(serve, run, 5 + 17 * number, f"b{number}")
        check_kept(tmp_path, kept)
    assert len(kept) > 3000


def test_start_up_faults_are_reported(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from seqloom.cli.main import run as command

    store = f"sqlite:///{tmp_path / 's.db'}"
    assert command(["serve", str(tmp_path / "none"), "--port", "0", "--store", store]) == 2
    assert "none" in capsys.readouterr().err
    assert command(["serve", str(run), str(run), "--store", store]) == 2
    assert "NAME=FOLDER" in capsys.readouterr().err
    assert command(["serve", str(run), "--host", "0.0.0.0", "--no-auth", "--store", store]) == 2
    assert "token create" in capsys.readouterr().err
    assert command(["serve", str(run), "--set", "limits.max_kk=1", "--store", store]) == 2
    assert "max_kk" in capsys.readouterr().err


def test_no_client_waits_for_a_server_that_loads(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqloom.serving import server as module

    port, refused = free_port(), []

    def import_histories(*_: Any) -> int:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        refused.append(True)
        return 0

    monkeypatch.setattr(module, "import_histories", import_histories)
    config = module.ServerConfig(port=port, store=f"sqlite:///{tmp_path / 's.db'}")
    server = module.Server({"m": run}, config)
    assert refused
    socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(ServingError, match=f"cannot listen on 127.0.0.1:{port}"):
        module.Server({"m": run}, config)
    server.close()


def test_tokens_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from seqloom.cli.main import run as command

    store = ["--store", f"sqlite:///{tmp_path / 's.db'}", "--json"]
    assert command(["token", "create", "--name", "app", "--scope", "write", *store]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["scopes"] == ["write"]
    assert command(["token", "list", *store]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["name"] == "app"
    assert "token" not in listed
    assert command(["token", "revoke", "--id", made["id"], *store]) == 0
    assert command(["token", "revoke", "--id", made["id"], *store]) == 2
    assert command(["token", "create", *store]) == 2
