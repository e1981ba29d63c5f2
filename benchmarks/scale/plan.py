"""What is to be served, what is assumed, and what was measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COSTS = ROOT / "docs" / "unit_costs.json"


@dataclass(frozen=True)
class Plan:
    """The target, and assumptions about it. None of these is measured."""

    items: int = 100_000_000
    users: int = 1_000_000_000
    requests_per_s: float = 100_000
    events_per_user: float = 50
    """Kept of each user."""
    events_per_s: float = 20_000
    """Posted, each in a request of its own."""
    p99_ms: float = 50
    """The bar that a release keeps on one machine."""
    lists: int = 65_536
    """Of the inverted file."""
    probed: int = 64
    """Lists that a query looks into; what recall this gives at 100 M items has not been measured."""
    cores: int = 16
    """Of a server."""
    memory_gib: float = 64
    """Of a server."""
    servers: int = 10
    """Of a group, in which one may fail."""
    shards: int = 8
    """Of the catalogue, where a server does not hold all of it."""
    gpu_gib: float = 60
    """Of an 80 GB GPU, left for tables."""


@dataclass(frozen=True)
class Prices:
    """US dollars, an assumption: put in your own."""

    core_hour: float = 0.04
    memory_gib_hour: float = 0.004
    disk_gib_month: float = 0.10
    gpu_hour: float = 3.0


MODEL_WIDTH, ID_WIDTH, TEXT_WIDTH = 256, 128, 384
"""Of LLM-ESR with its defaults: item vectors, trained id table, frozen text table."""
REQUEST_MS, TARGETS_PER_CORE_S = 1.05, 131_413 / 5.71 / 2
"""From docs/benchmarks.md: processor time of a request, and training targets on one core."""
SCORES_AT_ONCE = 16 << 20
"""`serving/engine/engine.py`: most scores of one batch."""
MAX_BATCH = 64
"""`serving/config.py`: most requests scored together."""
GIB = 2**30
HOURS_A_MONTH = 730


def unit_costs() -> dict[str, float]:
    """What `python -m benchmarks.unit_costs` measured."""
    costs: dict[str, float] = json.loads(COSTS.read_text(encoding="utf-8"))
    return costs


def item_bytes(costs: dict[str, float]) -> float:
    """Memory of an item in a server of today: both tables, the vectors made of them, and Python's share."""
    return 4 * (ID_WIDTH + TEXT_WIDTH + MODEL_WIDTH) + costs["python_bytes_per_item"]


def ann_ms(plan: Plan, costs: dict[str, float]) -> float:
    """Processor time of a query to the inverted file."""
    codes = plan.items * plan.probed / plan.lists
    ns = plan.lists * costs["ann_ns_per_centre"] + codes * costs["ann_ns_per_code"]
    return ns / 1e6


def answer_ms(plan: Plan, costs: dict[str, float]) -> float:
    """Processor time of a request: HTTP and encoder, search, history."""
    return REQUEST_MS + ann_ms(plan, costs) + costs["redis_history_us"] / 1e3


def shard_ms(plan: Plan, costs: dict[str, float]) -> float:
    """Processor time of a request in one of `plan.shards`: each is asked over HTTP and has its part of
    the search.
    """
    return REQUEST_MS + ann_ms(plan, costs) / plan.shards
