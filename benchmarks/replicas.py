"""Two servers on one store behind nginx, on loopback: delay between them, and the effect of a kill.

`python -m benchmarks replicas --run RUN` takes a trained run whose data set is still where it was;
without one, a run of one epoch is made. For PostgreSQL and for Redis, each flushing every write: events
and live items that one server took, until the other has them; then, under load, `kill -9` of one server,
its start, and `kill -9` of the other. Every acknowledged event is looked for in the store. The
yardsticks are the bars that a release has to keep.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from benchmarks.backends import nginx_server, postgres_server, redis_server
from benchmarks.clients import USER, Clients
from benchmarks.result import Measurement, Result
from benchmarks.served import Served
from benchmarks.serving import trained_run
from seqloom.runs.folder import load_run

STORES = {"PostgreSQL": postgres_server, "Redis": redis_server}
AGREE_S, TIMES = 2.0, 10
BARE, KEYED, LISTS = 4, 4, 4
"""Clients that post events without a key, with one, and that ask for lists."""
WARM = 50
"""Good answers that each client has before a kill, and after it."""


def run(folder: Path, trained: Path | None = None) -> list[Result]:
    """Measure with each store, and put what was seen beside the bars."""
    trained = trained or trained_run(folder)
    manifest = load_run(trained).manifest
    what = f"{manifest.system}, {manifest.sizes.num_items:,} items"
    measured = {name: measure(trained, server) for name, server in STORES.items()}
    return [result for name, each in measured.items() for result in results(name, what, each)]


def measure(trained: Path, server: Callable[[], contextlib.AbstractContextManager[str]]) -> Any:
    """All measurements with one store."""
    measured: dict[str, Any] = {"load": os.getloadavg()[0]}
    with server() as store, _pair(trained, store) as pair:
        ports = [served.port for served in pair]
        with nginx_server(ports) as url, _clients_of(pair) as both:
            for number, client in enumerate(both):  # the text encoder is loaded at the first one
                _put(client, f"first-{number}")
            measured["event_s"] = [_event_delay(both, number) for number in range(TIMES)]
            measured["item_s"] = [_item_delay(both, number) for number in range(TIMES)]
            measured |= _kills(trained, store, pair, url)
    return measured


def results(store: str, what: str, measured: dict[str, Any]) -> list[Result]:
    """What was measured with one store, beside the bars."""
    most = BARE * measured["kills"]
    notes = {
        "run": what,
        "cores of everything together": str(len(os.sched_getaffinity(0))),
        f"{store}: load average before": f"{measured['load']:.2f}",
        f"{store}: requests under load": f"{measured['requests']} from {BARE + KEYED + LISTS} clients, "
        f"{measured['acknowledged']} events acknowledged, {measured['kills']} kills",
        f"{store}: slowest request of the load": f"{measured['slowest_s']:.2f} s",
    }

    def beside(title: str, values: list[float], bar: float, unit: str = "s") -> Result:
        ours, theirs = Measurement("seqloom", unit, values), Measurement("bar", unit, [bar])
        return Result(f"{store}: {title}", ours, theirs, notes=notes)

    def nothing(title: str, count: int, unit: str) -> Result:
        ours = Measurement("seqloom", unit, [count])
        return Result(f"{store}: {title}", ours, missing="the limit is 0", notes=notes)

    return [
        beside("time until the other server has an event", measured["event_s"], AGREE_S),
        beside("time until the other server offers a live item", measured["item_s"], AGREE_S),
        nothing("acknowledged events lost", measured["lost"], "events"),
        nothing("events stored twice", measured["twice"], "events"),
        nothing("failed lists and events with a key", measured["failed_safe"], "requests"),
        beside("failed events without a key", [measured["failed_bare"]], most, "requests"),
        Result(
            f"{store}: from a kill to an answer to every client",
            Measurement("seqloom", "s", measured["answered_s"]),
            missing="no limit",
            notes=notes,
        ),
        Result(
            f"{store}: from a start to requests through nginx",
            Measurement("seqloom", "s", [measured["back_s"]]),
            missing="no limit",
            notes=notes,
        ),
    ]


def _kills(trained: Path, store: str, pair: list[Served], url: str) -> dict[str, Any]:
    """Kill one server under load, start it again, kill the other; then look for the events."""
    kinds = ["bare"] * BARE + ["keyed"] * KEYED + ["list"] * LISTS
    answered = []
    with Clients(url, kinds) as clients:
        clients.until(WARM)
        answered.append(_killed(pair[0], clients))
        began = time.monotonic()
        pair[0] = Served(trained, Path(), store=store, port=pair[0].port)
        _until(lambda: _has_answered(pair[0]))
        back = time.monotonic() - began
        answered.append(_killed(pair[1], clients))
    from seqloom.serving.store import open_store

    with contextlib.closing(open_store(store)) as opened:
        kept = [event.item_id for event in opened.export(USER)]
    acknowledged = clients.events(acknowledged=True)
    return {
        "kills": len(answered),
        "requests": len(clients.answers),
        "acknowledged": len(acknowledged),
        "lost": len(acknowledged - set(kept)),
        "twice": len(kept) - len(set(kept)),
        "failed_safe": len(clients.failed("keyed")) + len(clients.failed("list")),
        "failed_bare": len(clients.failed("bare")),
        "slowest_s": max(each.ended - each.began for each in clients.answers),
        "answered_s": answered,
        "back_s": back,
    }


def _killed(served: Served, clients: Clients) -> float:
    """Seconds from the kill of a server until each client had an answer to a later request."""
    served.process.send_signal(signal.SIGKILL)
    at = time.monotonic()
    served.process.wait(60)
    clients.until(WARM, since=at)
    first: dict[str, float] = {}
    for each in list(clients.answers):
        if each.ok and each.began >= at:
            first.setdefault(each.name.rpartition("-")[0], each.ended)
    return max(first.values()) - at


def _event_delay(both: list[httpx.Client], number: int) -> float:
    """Seconds from the acknowledgement of an event until the other server exports it."""
    here, there = both[number % 2], both[1 - number % 2]
    body = {"events": [{"user_id": f"seen-{number}", "item_id": "x"}]}
    here.post("/v1/events", json=body).raise_for_status()
    return _until(lambda: there.get(f"/v1/users/seen-{number}").status_code == 200)


def _item_delay(both: list[httpx.Client], number: int) -> float:
    """Seconds from the answer that an item is in until the other server recommends it."""
    here, there = both[number % 2], both[1 - number % 2]
    _put(here, f"new-{number}")
    body = {"user_id": "u", "candidates": [f"new-{number}"], "k": 1}

    def offered() -> bool:
        return bool(there.post("/v1/recommend", json=body).json()["items"])

    if not here.post("/v1/recommend", json=body).json()["items"]:
        raise RuntimeError("the run takes no new items; name one of llmesr with --run")
    return _until(offered)


def _put(client: httpx.Client, item: str) -> None:
    body = {"attributes": {"title": f"hand cream called {item}"}}
    client.put(f"/v1/items/{item}", json=body).raise_for_status()


def _has_answered(served: Served) -> bool:
    return 'route="/v1/recommend"' in httpx.get(f"{served.url}/metrics", timeout=30).text


def _until(true: Callable[[], bool], patience_s: float = 300) -> float:
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > patience_s:
            raise TimeoutError(f"it does not come to pass in {patience_s:g} s")
        time.sleep(0.001)
    return time.monotonic() - began


@contextlib.contextmanager
def _pair(trained: Path, store: str) -> Iterator[list[Served]]:
    """Two servers of a store; whichever is in the list at the end is ended."""
    pair: list[Served] = []
    try:
        pair.append(Served(trained, Path(), store=store))
        pair.append(Served(trained, Path(), store=store))
        yield pair
    finally:
        for served in pair:
            served.kill()


@contextlib.contextmanager
def _clients_of(pair: list[Served]) -> Iterator[list[httpx.Client]]:
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(httpx.Client(base_url=s.url, timeout=300)) for s in pair]
