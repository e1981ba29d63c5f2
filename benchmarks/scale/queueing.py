"""How busy servers may be: a simulation of requests that wait for a core.

Requests come at random times (Poisson) and are given to servers at random; each server has some cores
and one queue. Service times are exponential. Where the catalogue is sharded, a request asks every shard
and waits for the slowest.
"""

from __future__ import annotations

import heapq
import random

_REQUESTS = 20_000


def p99_ms(service_ms: float, cores: int, load: float, *, shards: int = 1, seed: int = 0) -> float:
    """The 99th percentile of the time to an answer, ms, of servers of which `load` is busy, 0 to 1.

    Servers are alike and requests fall on them at random, so one server stands for all; of a sharded
    catalogue, one of each shard, and `service_ms` is what a request takes in each.
    """
    draw = random.Random(seed)
    rate = load * cores / service_ms
    free = [[0.0] * cores for _ in range(shards)]
    now, took = 0.0, []
    for _ in range(_REQUESTS):
        now += draw.expovariate(rate)
        ends = now
        for cores_free in free:
            end = max(now, cores_free[0]) + draw.expovariate(1 / service_ms)
            heapq.heapreplace(cores_free, end)
            ends = max(ends, end)
        took.append(ends - now)
    took = sorted(took[_REQUESTS // 10 :])  # the first ones met empty queues
    return took[int(0.99 * len(took))]


def highest_load(service_ms: float, cores: int, bar_ms: float, servers: int) -> float:
    """The highest load, in steps of 0.05, at which p99 keeps the bar after one of `servers` has failed."""
    steps = [step / 20 for step in range(19, 0, -1)]
    for load in steps:
        left = load * servers / (servers - 1)
        if left < 1 and p99_ms(service_ms, cores, left) <= bar_ms:
            return load
    return steps[-1]
