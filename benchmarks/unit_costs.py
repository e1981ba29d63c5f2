"""The unit costs behind docs/scale.md: `python -m benchmarks.unit_costs` writes docs/unit_costs.json.

Processor time on one core, not wall-clock: it can be measured on a busy machine. The part `ann` needs
faiss-cpu, the extra `ann`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.backends import postgres_server, redis_server

OUT = Path(__file__).resolve().parents[1] / "docs" / "unit_costs.json"
WIDTH = 256
"""Width of the item vectors of LLM-ESR with its defaults."""
ITEMS, USERS, EVENTS_EACH = 100_000, 2_000, 20
_NEAR = 20_000
"""Items of the approximate search, whose index is slow to train on one core."""
Costs = dict[str, float]


def scoring() -> Costs:
    """Exact scores and the best ten of a catalogue."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(ITEMS, WIDTH, generator=generator)

    def seconds(batch: int) -> float:
        queries = torch.randn(batch, WIDTH, generator=generator)
        return _processor_s(lambda: (queries @ vectors.t()).topk(10, dim=1), 5)

    return {
        "score_ns_per_item_alone": 1e9 * seconds(1) / ITEMS,
        "score_ns_per_item_in_batch": 1e9 * seconds(64) / (64 * ITEMS),
        "matmul_gflops": 2e-9 * 2048**3 / _processor_s(_product(2048), 5),
    }


def catalogue() -> Costs:
    """What Python keeps of items beside their tensors, and a copy of the live changes."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    ids = [f"B{n:09d}" for n in range(ITEMS)]
    numbers = {item: n for n, item in enumerate(ids, start=1)}
    titles = [f"{n:09d}" + "t" * 50 for n in range(ITEMS)]
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    copy_s = _processor_s(lambda: dict(numbers), 5)
    return {
        "python_bytes_per_item": kept / len(titles),
        "live_copy_ns_per_item": 1e9 * copy_s / ITEMS,
    }


def embedding() -> Costs:
    """Text to vector by the small encoder that most examples use."""
    from seqloom.text.encoders.factory import build_encoder
    from seqloom.text.options import EncoderOptions

    encoder = build_encoder(EncoderOptions(encoder="all-minilm-l6-v2"))
    texts = [f"title: hand cream number {n}. brand: {'soft ' * (n % 8)}" for n in range(64)]
    encoder.encode(texts[:2])
    return {"embed_ms_per_text": 1e3 * _processor_s(lambda: encoder.encode(texts), 2) / len(texts)}


def stores() -> Costs:
    """Bytes and processor time of an event in each store, client and server together."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "s.db")
        measured = _store("sqlite", f"sqlite:///{file}", lambda: float(file.stat().st_size))
    with postgres_server() as url:
        import psycopg

        def size() -> float:
            with psycopg.connect(url) as connection:
                row = connection.execute("SELECT pg_total_relation_size('events')").fetchone()
                return float(row[0]) if row else 0.0

        measured |= _store("postgresql", url, size)
    with redis_server() as url:
        import redis

        client: Any = redis.Redis.from_url(url)
        measured |= _store("redis", url, lambda: float(client.info("memory")["used_memory"]))
    return measured


def _store(name: str, url: str, size: Callable[[], float]) -> Costs:
    from seqloom.serving.store import open_store
    from seqloom.serving.store.base import Event

    chunks = [
        [
            Event(f"user{u:09d}", f"B{(u * 31 + n) % ITEMS:09d}", 10**9 + n)
            for n in range(EVENTS_EACH)
        ]
        for u in range(USERS)
    ]
    bulk = [
        [event for chunk in chunks[at : at + 100] for event in chunk] for at in range(0, USERS, 100)
    ]
    count = USERS * EVENTS_EACH
    with contextlib.closing(open_store(url)) as store:
        empty = size()
        taken = _all_processor_s(lambda: store.import_events("set", bulk))
        users = [f"user{u:09d}" for u in range(0, USERS, 5)]
        read = _all_processor_s(lambda: [store.histories([user], 1000) for user in users])
        posts = [[Event(user, "B000000001", 2 * 10**9)] for user in users]
        append = _all_processor_s(lambda: [store.append(post) for post in posts])
        grown = size() - empty
    return {
        f"{name}_bytes_per_event": grown / (count + len(posts)),
        f"{name}_import_us_per_event": 1e6 * taken / count,
        f"{name}_history_us": 1e6 * read / len(users),
        f"{name}_append_us": 1e6 * append / len(posts),
    }


def ann() -> Costs:
    """An inverted file with product codes (faiss IVF-PQ), over vectors that lie in clusters.

    A query costs the comparison with every list's centre, and each code of the lists that are probed.
    """
    import faiss
    import numpy as np

    faiss.omp_set_num_threads(1)
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((2000, WIDTH), dtype=np.float32)
    noise = draw.standard_normal((_NEAR + 100, WIDTH), dtype=np.float32)
    points = centres[draw.integers(0, len(centres), _NEAR + 100)] + 0.6 * noise
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    items, queries = points[:_NEAR], points[_NEAR:]
    lists, probed, kept = 128, 16, 100
    index: Any = faiss.index_factory(WIDTH, f"IVF{lists},PQ64", faiss.METRIC_INNER_PRODUCT)
    codes: Any = faiss.downcast_index(index)
    codes.do_polysemous_training = False  # takes a minute, and serves another kind of search
    codes.pq.cp.niter = 8
    index.train(items[: 40 * lists])
    index.add(items)
    index.nprobe = probed
    exact = np.argsort(-queries @ items.T, axis=1)[:, :10]
    _, near = index.search(queries, kept)
    hits = 0
    for query, measured, best in zip(queries, near, exact, strict=True):
        ranked = measured[np.argsort(-(items[measured] @ query))][:10]
        hits += len(set(ranked.tolist()) & set(best.tolist()))
    seconds = _processor_s(lambda: index.search(queries, kept), 3) / len(queries)
    centre_s = _processor_s(lambda: index.quantizer.search(queries, probed), 3) / len(queries)
    return {
        "ann_bytes_per_item": faiss.serialize_index(index).size / _NEAR,
        "ann_ns_per_code": 1e9 * (seconds - centre_s) / (_NEAR * probed / lists),
        "ann_ns_per_centre": 1e9 * centre_s / lists,
        "ann_recall_at_10": hits / (10 * len(queries)),
    }


PARTS: dict[str, Callable[[], Costs]] = {
    part.__name__: part for part in (scoring, catalogue, embedding, stores, ann)
}


def main() -> None:
    """Measure the named parts; the others stay as they were written last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unit_costs", description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    costs: Costs = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in options.parts:
        measured = PARTS[name]()
        costs |= {key: float(f"{value:.3g}") for key, value in measured.items()}
        print(name, measured, flush=True)
    options.out.write_text(json.dumps(dict(sorted(costs.items())), indent=2) + "\n")


def _product(size: int) -> Callable[[], object]:
    a, b = torch.randn(size, size), torch.randn(size, size)
    return lambda: a @ b


def _processor_s(work: Callable[[], object], times: int) -> float:
    """Processor seconds of this process, the least of several times; the first does not count."""
    work()
    taken = []
    for _ in range(times):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def _all_processor_s(work: Callable[[], object]) -> float:
    """Processor seconds of this process and of the servers that it started, for one call."""
    began = _family_s()
    work()
    return _family_s() - began


def _family_s() -> float:
    """Processor seconds of this process and all below it, and of those of them that have ended.

    The others' come in steps of a clock tick, 10 ms as a rule.
    """
    parents: dict[int, int] = {}
    spent: dict[int, float] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()
            pid = int(file.parent.name)
            parents[pid] = int(fields[1])
            spent[pid] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    family, me = time.process_time(), os.getpid()
    for pid in parents.keys() - {me}:
        above = pid
        while above in parents and above != me:
            above = parents[above]
        family += spent[pid] if above == me else 0.0
    return family


if __name__ == "__main__":
    main()
