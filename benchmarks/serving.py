"""A server of LLM-ESR under load from a second process on loopback.

`python -m benchmarks serving --run RUN` takes a trained run whose data set is still where it was; without
one, a run of one epoch is made (what an answer costs does not depend on what was learnt). The run's
users are the ones who ask. Measured: start and restart to ready, one request at a time, as many as go
through, a steady rate (latencies from when a request was due), reloads under load, a new item, and
memory over many requests. The yardsticks are the bars that a release has to keep.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.data import benchmark_dataset
from benchmarks.result import Measurement, Result
from benchmarks.served import Served

_ROOT = Path(__file__).resolve().parents[1]
RATE = 600
"""Requests a second that a server must answer, and the steady rate that is sent."""
P99_MS, SINGLE_MS, RESTART_S, NEW_ITEM_S = 50.0, 8.0, 5.0, 1.0
REQUESTS, MANY, QUICK_MANY, PARTS, RESTARTS = 5000, 100_000, 20_000, 5, 3


def run(folder: Path, trained: Path | None = None, quick: bool = False) -> list[Result]:
    """Serve, load, and put what was seen beside the bars."""
    trained = trained or trained_run(folder)
    with tempfile.TemporaryDirectory() as scratch:
        many = QUICK_MANY if quick else MANY
        measured = measure(trained, Path(scratch), REQUESTS, many)
    return results(measured, trained, many)


def measure(trained: Path, folder: Path, requests: int, many: int) -> dict[str, Any]:
    """All measurements, in their order."""
    from seqloom.runs.folder import load_run

    users = folder / "users.txt"
    users.write_text("\n".join(load_run(trained).dataset().user_ids), encoding="utf-8")
    measured: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]}
    server = Served(trained, folder)
    measured["first_start_s"], measured["restart_s"] = server.ready_s, []
    for _ in range(RESTARTS):
        server.stop()
        server = Served(trained, folder)
        measured["restart_s"].append(server.ready_s)
    try:
        _result(_load(server, users, connections=8, requests=requests // 10))  # warm
        measured["single"] = _under_load(server, users, connections=1, requests=requests // 5)
        measured["fastest"] = _under_load(server, users, connections=16, requests=requests)
        measured["steady"] = _under_load(
            server, users, connections=64, requests=requests, rate=RATE
        )
        measured["reload"] = _reloads(server, users, requests)
        measured["new_item_s"] = _new_item(server)
        measured["memory_mb"], measured["failures"] = [server.memory_mb()], 0
        for _ in range(PARTS):
            part = _under_load(server, users, connections=16, requests=many // PARTS)
            measured["memory_mb"].append(server.memory_mb())
            measured["failures"] += part["failures"]
    finally:
        server.stop()
    return measured


def results(measured: dict[str, Any], trained: Path, many: int = MANY) -> list[Result]:
    """What was measured, beside the bars."""
    single, fastest, steady = measured["single"], measured["fastest"], measured["steady"]
    reload, memory = measured["reload"], measured["memory_mb"]
    failed = sum(each["failures"] for each in (single, fastest, steady)) + measured["failures"]
    notes = {
        "run": trained.name,
        "cores of server and load generator together": str(measured["cores"]),
        "load average before": f"{measured['load']:.2f}",
        "first start, which imports the histories": f"{measured['first_start_s']:.1f} s",
        "at full load": f"{fastest['requests_per_s']:.0f} requests/s, p99 {fastest['p99_ms']:.1f} ms",
        "processor time of the server per request": f"{fastest['server_cpu_ms_per_request']:.2f} ms",
        "processor time of the load generator per request": f"{fastest['client_cpu_ms_per_request']:.2f} ms",
        "reloads under load": f"{reload['reloads']} in {reload['requests']} requests",
        "memory": ", ".join(f"{each:.0f}" for each in memory) + " MiB, before and after each part",
    }
    new_item = "new item, from its text to the first list that holds it"
    rows = [
        _beside("Time per request at full load", 1000 / fastest["requests_per_s"], 1000 / RATE),
        _beside(f"p99 at {RATE} requests/s", steady["p99_ms"], P99_MS),
        _beside("One request at a time, p50", single["p50_ms"], SINGLE_MS),
        _beside("Restart to ready", measured["restart_s"], RESTART_S, "s"),
        Result(
            f"Memory after {many:,} requests",
            Measurement("after", "MiB", [memory[-1]]),
            Measurement("before", "MiB", [memory[0]]),
        ),
        _count("Failed requests while runs are reloaded", reload["failures"]),
        _count("Failed requests otherwise", failed),
    ]
    if measured["new_item_s"] is not None:
        rows.append(_beside(new_item.capitalize(), measured["new_item_s"], NEW_ITEM_S, "s"))
    return [Result(r.title, r.ours, r.yardstick, r.missing, notes) for r in rows]


def _beside(title: str, values: float | list[float], bar: float, unit: str = "ms") -> Result:
    values = values if isinstance(values, list) else [values]
    return Result(title, Measurement("seqloom", unit, values), Measurement("bar", unit, [bar]))


def _count(title: str, failures: int) -> Result:
    return Result(title, Measurement("seqloom", "requests", [failures]), missing="the limit is 0")


def trained_run(folder: Path) -> Path:
    """A run of one epoch over hashed text, trained if absent."""
    from seqloom.core.device import keep_freed_memory
    from seqloom.pipelines.embed.embed import embed
    from seqloom.pipelines.embed.options import EmbedOptions
    from seqloom.pipelines.train.train import train
    from seqloom.text.store import text_names

    out = folder / "runs" / "llmesr"
    if not (out / "manifest.json").exists():
        keep_freed_memory()
        dataset = benchmark_dataset(folder)
        if "serving" not in text_names(dataset):
            embed(dataset, EmbedOptions(encoder="hash:384", users="mean", name="serving"))
        config = {"epochs": 1, "text": "serving", "semantic.tower.epochs": 1}
        train(dataset, "llmesr", config=config, out=out, overwrite=True)
    return out


def _load(server: Served, users: Path, **options: float) -> subprocess.Popen[str]:
    """Start the load generator."""
    command = [sys.executable, "-m", "benchmarks.load", "--port", str(server.port)]
    command += ["--users", str(users)]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT)


def _result(started: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a load generator."""
    text, _ = started.communicate()
    rows: dict[str, Any] = json.loads(text)
    return rows


def _under_load(server: Served, users: Path, **options: float) -> dict[str, Any]:
    """A whole run of the load generator, and what the server's processor time was for a request."""
    before = server.cpu_s()
    measured = _result(_load(server, users, **options))
    spent = 1000 * (server.cpu_s() - before) / measured["requests"]
    return {**measured, "server_cpu_ms_per_request": round(spent, 3)}


def _reloads(server: Served, users: Path, requests: int) -> dict[str, Any]:
    """Reload again and again while requests come."""
    running = _load(server, users, connections=8, requests=requests)
    count = 0
    while running.poll() is None:
        httpx.post(f"{server.url}/v1/admin/reload", json={}, timeout=60).raise_for_status()
        count += 1
    return {"reloads": count, **_result(running)}


def _new_item(server: Served) -> float | None:
    """Seconds from putting an item in until it is recommended; None where the system cannot."""
    body = {"attributes": {"title": "hand cream with almond oil", "brand": "new"}}
    httpx.put(f"{server.url}/v1/items/warm-up", json=body, timeout=60).raise_for_status()
    body = {"attributes": {"title": "nail file set", "brand": "new"}}
    began = time.perf_counter()
    measured = httpx.put(f"{server.url}/v1/items/new-item", json=body, timeout=60).json()
    if not measured["models"][0]["recommends"]:
        return None
    question = {"user_id": "u", "candidates": ["new-item"]}
    reply = httpx.post(f"{server.url}/v1/recommend", json=question, timeout=60).json()
    assert [item["item_id"] for item in reply["items"]] == ["new-item"]
    return round(time.perf_counter() - began, 3)
