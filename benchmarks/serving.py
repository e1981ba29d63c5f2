"""`python -m benchmarks.serving RUN`: a server under load from a second process on loopback.

RUN is a trained run whose data set is still where it was; its users are the ones who ask. Measured:
start and restart to ready, one request at a time, as many as go through, a steady rate (latencies from
when a request was due), reloads under load, a new item, and memory over many requests.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

_MAIN = "from seqloom.cli.main import main; main()"
_ROOT = Path(__file__).resolve().parents[1]
BARS = {
    "requests_per_s": 600,
    "p99_ms": 50,
    "single_p50_ms": 8,
    "restart_s": 5,
    "new_item_s": 1,
}


class Served:
    """A `seqloom serve` process on a free port."""

    def __init__(self, run: Path, folder: Path) -> None:
        began = time.perf_counter()
        command = [
            sys.executable,
            "-c",
            _MAIN,
            "serve",
            str(run),
            "--port",
            "0",
            "--json",
            "--quiet",
        ]
        self.process = subprocess.Popen(
            [*command, "--store", f"sqlite:///{folder / 'store.db'}"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        document = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            document += line
            if line.rstrip() == "}":
                break
        self.url: str = json.loads(document)["url"]
        self.port = int(self.url.rsplit(":", 1)[1])
        while True:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    break
            time.sleep(0.01)
        self.ready_s = round(time.perf_counter() - began, 2)

    def memory_mb(self) -> float:
        """Resident memory of the process, MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)

    def cpu_s(self) -> float:
        """Processor time of the process so far, seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it and wait."""
        self.process.terminate()
        self.process.wait(60)


def load(server: Served, users: Path, **options: float) -> subprocess.Popen[str]:
    """Start the load generator."""
    command = [sys.executable, "-m", "benchmarks.load", "--port", str(server.port)]
    command += ["--users", str(users)]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT)


def result(started: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a load generator."""
    text, _ = started.communicate()
    found: dict[str, Any] = json.loads(text)
    return found


def under_load(server: Served, users: Path, **options: float) -> dict[str, Any]:
    """A whole run of the load generator, and what the server's processor time was for a request."""
    before = server.cpu_s()
    told = result(load(server, users, **options))
    spent = 1000 * (server.cpu_s() - before) / told["requests"]
    return {**told, "server_cpu_ms_per_request": round(spent, 3)}


def reloads(server: Served, users: Path, requests: int) -> dict[str, Any]:
    """Reload again and again while requests come."""
    running = load(server, users, connections=8, requests=requests)
    count = 0
    while running.poll() is None:
        httpx.post(f"{server.url}/v1/admin/reload", json={}, timeout=60).raise_for_status()
        count += 1
    return {"reloads": count, **result(running)}


def new_item(server: Served) -> float | None:
    """Seconds from putting an item in until it is recommended; None where the system cannot."""
    body = {"attributes": {"title": "hand cream with almond oil", "brand": "new"}}
    httpx.put(f"{server.url}/v1/items/warm-up", json=body, timeout=60).raise_for_status()
    body = {"attributes": {"title": "nail file set", "brand": "new"}}
    began = time.perf_counter()
    told = httpx.put(f"{server.url}/v1/items/new-item", json=body, timeout=60).json()
    if not told["models"][0]["recommends"]:
        return None
    question = {"user_id": "u", "candidates": ["new-item"]}
    reply = httpx.post(f"{server.url}/v1/recommend", json=question, timeout=60).json()
    assert [item["item_id"] for item in reply["items"]] == ["new-item"]
    return round(time.perf_counter() - began, 3)


def measure(run: Path, folder: Path, requests: int, many: int) -> dict[str, Any]:
    """All measurements, in their order."""
    from seqloom.runs.folder import load_run

    users = folder / "users.txt"
    users.write_text("\n".join(load_run(run).dataset().user_ids), encoding="utf-8")
    told: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]}
    server = Served(run, folder)
    told["first_start_s"] = server.ready_s
    server.stop()
    server = Served(run, folder)
    told["restart_s"] = server.ready_s
    try:
        result(load(server, users, connections=8, requests=500))  # warm
        told["single"] = under_load(server, users, connections=1, requests=requests // 5)
        told["fastest"] = under_load(server, users, connections=16, requests=requests)
        rate = BARS["requests_per_s"]
        told["steady"] = under_load(server, users, connections=64, requests=requests, rate=rate)
        told["reload"] = reloads(server, users, requests)
        told["new_item_s"] = new_item(server)
        before = server.memory_mb()
        if many:
            told["many"] = under_load(server, users, connections=16, requests=many)
        told["memory_mb"] = {"before": before, "after": server.memory_mb(), "requests": many}
    finally:
        server.stop()
    return told


def main() -> None:
    """Parse the command line, measure, write one JSON document."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--requests", type=int, default=5000, help="for each measurement")
    parser.add_argument("--many", type=int, default=100_000, help="for the memory; 0 leaves it out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = measure(options.run, Path(folder), options.requests, options.many)
    print(json.dumps({"bars": BARS, **told}, indent=2))


if __name__ == "__main__":
    main()
