"""A small HTTP load generator: `python -m benchmarks.load --port P ...` writes its measurements as JSON.

Closed loop: each connection sends its next request when it has the answer to the last. Open loop
(`--rate`): requests fall due at even times, and a late one counts from when it was due.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Seen:
    """Latencies in seconds, and how often each status came; 0 where the connection failed."""

    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)


class Connection:
    """One kept-alive connection."""

    def __init__(self, host: str, port: int) -> None:
        self._where = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes) -> int:
        """Send a recommendation request; gives the status, 0 where the connection failed."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(*self._where)
            reader, writer = self._streams
            head = (
                f"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            lower = answer.lower()
            at = lower.index(b"content-length:") + 15
            await reader.readexactly(int(lower[at : lower.index(b"\r\n", at)]))
            return int(answer[9:12])
        except (OSError, ValueError, asyncio.IncompleteReadError):
            self._streams = None
            return 0


async def send(
    host: str,
    port: int,
    bodies: list[bytes],
    *,
    connections: int,
    requests: int,
    rate: float | None,
) -> tuple[Seen, float]:
    """Send `requests` requests; gives what was seen, and the seconds it took."""
    seen = Seen()
    began = time.perf_counter()
    number = 0

    async def work() -> None:
        nonlocal number
        connection = Connection(host, port)
        while number < requests:
            mine, number = number, number + 1
            due = time.perf_counter()
            if rate is not None:
                due = began + mine / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            status = await connection.post(bodies[mine % len(bodies)])
            seen.latencies.append(time.perf_counter() - due)
            seen.statuses[status] = seen.statuses.get(status, 0) + 1

    await asyncio.gather(*(work() for _ in range(connections)))
    return seen, time.perf_counter() - began


def summary(seen: Seen, seconds: float) -> dict[str, object]:
    """Rates, percentiles in milliseconds, failures."""
    ranked = sorted(seen.latencies)

    def percentile(share: float) -> float:
        return round(1000 * ranked[min(len(ranked) - 1, int(share * len(ranked)))], 2)

    return {
        "requests": len(ranked),
        "requests_per_s": round(len(ranked) / seconds, 1),
        "p50_ms": percentile(0.5),
        "p90_ms": percentile(0.9),
        "p99_ms": percentile(0.99),
        "largest_ms": round(1000 * ranked[-1], 2),
        "client_cpu_ms_per_request": round(1000 * time.process_time() / len(ranked), 3),
        "failures": sum(count for status, count in seen.statuses.items() if status != 200),
    }


def main() -> None:
    """Parse the command line and send."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--users", type=Path, required=True, help="user ids, one a line")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--rate", type=float, help="requests a second; as fast as it goes without")
    options = parser.parse_args()
    users = options.users.read_text(encoding="utf-8").splitlines()
    random.Random(0).shuffle(users)
    bodies = [json.dumps({"user_id": user, "k": 10}).encode() for user in users]
    try:
        import uvloop
    except ImportError:
        run = asyncio.run
    else:
        run = uvloop.run
    seen, seconds = run(
        send(
            options.host,
            options.port,
            bodies,
            connections=options.connections,
            requests=options.requests,
            rate=options.rate,
        )
    )
    json.dump(summary(seen, seconds), sys.stdout)


if __name__ == "__main__":
    main()
