"""The figures: each a row of what it is, the number, and what it is made of."""

from __future__ import annotations

from benchmarks.scale.plan import (
    GIB,
    HOURS_A_MONTH,
    ID_WIDTH,
    MAX_BATCH,
    MODEL_WIDTH,
    REQUEST_MS,
    SCORES_AT_ONCE,
    TARGETS_PER_CORE_S,
    TEXT_WIDTH,
    Plan,
    Prices,
    ann_ms,
    answer_ms,
    item_bytes,
    shard_ms,
)
from benchmarks.scale.queueing import highest_load, p99_ms

Costs = dict[str, float]
Row = tuple[str, str, str]
_STORES = ("sqlite", "postgresql", "redis")


def limits(plan: Plan, costs: Costs) -> list[tuple[str, float, str]]:
    """At how many items each part of today's server gives way, the first one first."""
    alone = costs["score_ns_per_item_alone"]
    memory = (plan.memory_gib * GIB) / item_bytes(costs)
    rows = [
        (
            f"a batch holds fewer than {MAX_BATCH} requests",
            SCORES_AT_ONCE / MAX_BATCH,
            "2^24 scores a batch (`engine.py`): requests no longer share one pass over the vectors",
        ),
        (
            f"exact scores of one request take {plan.p99_ms:g} ms of a core",
            plan.p99_ms * 1e6 / alone,
            f"`score_ns_per_item_alone` {alone:g}",
        ),
        (
            f"a reload does not fit into {plan.memory_gib:g} GiB",
            memory / 2,
            f"{item_bytes(costs):.0f} bytes an item, twice while both models are held",
        ),
        (
            f"of items changed while serving: one more takes {plan.p99_ms:g} ms",
            plan.p99_ms * 1e6 / (3 * costs["live_copy_ns_per_item"]),
            "three copies by `live_copy_ns_per_item` for each change (`catalogue.py`, `live.py`)",
        ),
        (f"a server does not fit into {plan.memory_gib:g} GiB", memory, "the same, once"),
    ]
    return sorted(rows, key=lambda row: row[1])


def serving(plan: Plan, costs: Costs) -> list[Row]:
    """Requests: what they take, and how many servers that is."""
    exact_s = plan.items * costs["score_ns_per_item_alone"] / 1e9
    together_s = plan.items * costs["score_ns_per_item_in_batch"] / 1e9
    near, each = ann_ms(plan, costs), answer_ms(plan, costs)
    load = highest_load(each, plan.cores, plan.p99_ms, plan.servers)
    servers = plan.requests_per_s * each / 1e3 / plan.cores / load
    return [
        (
            "exact scores of one request",
            f"{exact_s:.1f} s of a core",
            "`score_ns_per_item_alone`",
        ),
        (
            "exact scores of all requests, in batches of 64",
            f"{plan.requests_per_s * together_s:,.0f} cores",
            "`score_ns_per_item_in_batch`",
        ),
        (
            "approximate search",
            f"{near:.2f} ms of a core",
            f"{plan.lists:,} centres at `ann_ns_per_centre`, "
            f"{plan.items * plan.probed / plan.lists:,.0f} codes at `ann_ns_per_code`",
        ),
        (
            "a request with it",
            f"{each:.2f} ms of a core",
            f"HTTP and encoder {REQUEST_MS} ms (benchmarks.md), search, history (`redis_history_us`)",
        ),
        (
            f"the same, the catalogue in {plan.shards} shards",
            f"{plan.shards * shard_ms(plan, costs):.2f} ms of a core",
            "each shard is asked over HTTP and searches its part",
        ),
        (
            "how busy servers may be",
            f"{load:.0%}",
            f"simulated: p99 under {plan.p99_ms:g} ms after 1 of {plan.servers} has failed",
        ),
        (
            "servers",
            f"{servers:,.0f} of {plan.cores} cores",
            f"{plan.requests_per_s:,.0f} requests/s",
        ),
    ]


def memory(plan: Plan, costs: Costs) -> list[Row]:
    """Where the catalogue lies."""
    tables = plan.items * item_bytes(costs) / GIB
    vectors = plan.items * 2 * MODEL_WIDTH / GIB
    trained = plan.items * 4 * ID_WIDTH / GIB
    gpus = -(-(4 * trained + plan.items * 2 * TEXT_WIDTH / GIB) // plan.gpu_gib)
    rowwise = -(-(trained + plan.items * (4 + 2 * TEXT_WIDTH) / GIB) // plan.gpu_gib)
    return [
        ("a server of today", f"{tables:,.0f} GiB", f"{item_bytes(costs):.0f} bytes an item"),
        (
            "codes of the approximate search",
            f"{plan.items * costs['ann_bytes_per_item'] / GIB:,.1f} GiB",
            "`ann_bytes_per_item`; in every server",
        ),
        (
            "item vectors in bfloat16",
            f"{vectors:,.0f} GiB",
            "to rank again; on disk, or shared out",
        ),
        (
            "Python's ids and titles",
            f"{plan.items * costs['python_bytes_per_item'] / GIB:,.0f} GiB",
            "`python_bytes_per_item`; must become mapped tables",
        ),
        (
            "training, Adam over all rows",
            f"{4 * trained:,.0f} GiB, {gpus:.0f} GPUs",
            "id table, gradient and two moments in float32; text in bfloat16 beside them",
        ),
        (
            "training, row-sharded, one moment a row",
            f"{trained:,.0f} GiB, {rowwise:.0f} GPUs",
            "torchrec, row-wise AdaGrad; a gradient for the rows of the batch alone",
        ),
    ]


def events(plan: Plan, costs: Costs) -> list[Row]:
    """What the stores take."""
    count = plan.users * plan.events_per_user
    rows: list[Row] = [
        ("events kept", f"{count:,.0f}", f"{plan.events_per_user:g} a user, assumed")
    ]
    for name in _STORES:
        kept = costs[f"{name}_bytes_per_event"]
        busy = plan.events_per_s * costs[f"{name}_append_us"] / 1e6
        busy += plan.requests_per_s * costs[f"{name}_history_us"] / 1e6
        days = count * costs[f"{name}_import_us_per_event"] / 1e6 / 86400
        rows.append(
            (
                {"sqlite": "SQLite", "postgresql": "PostgreSQL", "redis": "Redis"}[name],
                f"{count * kept / GIB:,.0f} GiB, {busy:,.0f} busy cores, {days:,.0f} days to import",
                f"{kept:.0f} bytes an event; append, history, import by `{name}_*`",
            )
        )
    return rows


def training(plan: Plan, costs: Costs) -> list[Row]:
    """What an epoch takes, and the texts before it."""
    targets = plan.users * plan.events_per_user
    flop = targets * 6 * plan.items * MODEL_WIDTH
    years = flop / (costs["matmul_gflops"] * 1e9) / 86400 / 365
    hours = targets / TARGETS_PER_CORE_S / 3600
    each = costs["embed_ms_per_text"] / 3.6e6
    search = plan.users**2 * 2 * TEXT_WIDTH / (costs["matmul_gflops"] * 1e9) / 86400 / 365
    return [
        (
            "an epoch, softmax over all items",
            f"{years:,.0f} core-years",
            "6 N D products a target at `matmul_gflops`",
        ),
        (
            "an epoch, sampled softmax",
            f"{hours:,.0f} core-hours",
            f"{TARGETS_PER_CORE_S:,.0f} targets a core-second (benchmarks.md, 12,101 items)",
        ),
        ("texts of all items", f"{plan.items * each:,.0f} core-hours", "`embed_ms_per_text`"),
        ("texts of all users", f"{plan.users * each:,.0f} core-hours", "the same, for LLM-ESR"),
        (
            "similar users of all users, exact",
            f"{search:,.0f} core-years",
            f"U² products of {TEXT_WIDTH} numbers at `matmul_gflops`",
        ),
    ]


def bill(plan: Plan, costs: Costs, prices: Prices) -> list[Row]:
    """US dollars a month at assumed prices."""
    each = answer_ms(plan, costs)
    load = highest_load(each, plan.cores, plan.p99_ms, plan.servers)
    cores = plan.requests_per_s * each / 1e3 / load
    count = plan.users * plan.events_per_user
    redis = count * costs["redis_bytes_per_event"] / GIB
    disk = count * costs["postgresql_bytes_per_event"] / GIB
    busy = plan.requests_per_s * costs["postgresql_history_us"] / 1e6 / load
    busy += plan.events_per_s * costs["postgresql_append_us"] / 1e6 / load
    epoch = plan.users * plan.events_per_user / TARGETS_PER_CORE_S / 3600
    fleet = cores * HOURS_A_MONTH
    return [
        (
            "servers",
            _dollars(
                fleet * (prices.core_hour + prices.memory_gib_hour * plan.memory_gib / plan.cores)
            ),
            f"{cores:,.0f} cores, {plan.memory_gib / plan.cores:g} GiB each",
        ),
        (
            "histories in Redis, one copy",
            _dollars(redis * prices.memory_gib_hour * HOURS_A_MONTH),
            f"{redis:,.0f} GiB of memory",
        ),
        (
            "or in PostgreSQL, one copy",
            _dollars(disk * prices.disk_gib_month + busy * prices.core_hour * HOURS_A_MONTH),
            f"{disk:,.0f} GiB of disk, {busy:,.0f} cores",
        ),
        (
            "ten epochs of sampled softmax",
            _dollars(10 * epoch * prices.core_hour),
            f"{10 * epoch:,.0f} core-hours",
        ),
    ]


def simulated(plan: Plan, costs: Costs) -> list[tuple[str, str, str, str]]:
    """Load, and p99 of whole servers, after one has failed, and of a catalogue in shards."""
    whole, part = answer_ms(plan, costs), shard_ms(plan, costs)
    rows = []
    for load in (0.5, 0.6, 0.7, 0.8, 0.9):
        left = load * plan.servers / (plan.servers - 1)
        rows.append(
            (
                f"{load:.0%}",
                f"{p99_ms(whole, plan.cores, load):.1f} ms",
                f"{p99_ms(whole, plan.cores, left):.1f} ms" if left < 1 else "grows without end",
                f"{p99_ms(part, plan.cores, load, shards=plan.shards):.1f} ms",
            )
        )
    return rows


def _dollars(amount: float) -> str:
    return f"${amount:,.0f}"
