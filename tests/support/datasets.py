"""Small prepared data sets for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import torch

from seqloom.core.protocols import Scorer
from seqloom.data.store import Dataset, Events, HeldOut, write_dataset
from seqloom.evaluation.ranking import Ranks, rank_targets
from seqloom.text.store import load_embeddings, write_embeddings
from support.language_models import shared_tiny_llama


def say_a_language_model_made(dataset: Dataset, name: str | None = None) -> None:
    """Records that a language model made a text embedding of a data set, whatever its vectors are."""
    text = load_embeddings(dataset, name)
    manifest = text.manifest.model_copy(update={"language_model": True})
    write_embeddings(dataset, manifest, text.items, text.users, overwrite=True)


def leave_one_out(histories: list[list[int]]) -> Events:
    """Returns events of `histories` (item numbers 1..N): the last is the test event, the one before valid.

    A user with fewer than three events has them all in the training part and is not held out.
    """
    lengths = torch.tensor([len(row) for row in histories], dtype=torch.int64)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    ends = offsets[1:]
    held_out = lengths >= 3
    return Events(
        items=torch.tensor([item for row in histories for item in row], dtype=torch.int32),
        offsets=offsets,
        train_end=torch.where(held_out, ends - 2, ends),
        valid=torch.where(held_out, ends - 2, -1),
        test=torch.where(held_out, ends - 1, -1),
    )


def ranked(scorer: Scorer, held_out: HeldOut, **options: Any) -> Ranks:
    """Calls `rank_targets` for users who all have a history, so that popularity plays no part."""
    return rank_targets(scorer, held_out, popularity=torch.ones(scorer.num_items), **options)


def tiny_dataset(
    path: Path,
    histories: list[list[int]],
    titles: list[str] | None = None,
    columns: dict[str, list[str]] | None = None,
    *,
    allow_sorted: bool = True,
) -> Dataset:
    """Writes a leave-one-out data set at `path` and opens it.

    `histories` are lists of item numbers 1..N, one a user. Item n has id `i<n>` and title
    `titles[n - 1]` (`item <n>` where no titles are given); user u has id `u<u>`. `columns` are
    further text columns of the items. With `allow_sorted`, an audit accepts histories in the order of
    their ids, as toy histories often are.
    """
    largest = max((item for row in histories for item in row), default=0)
    titles = titles if titles is not None else [f"item {n}" for n in range(1, largest + 1)]
    if largest > len(titles):
        raise ValueError(f"item {largest} has no title: {len(titles)} titles were given")
    ids = [f"i{n}" for n in range(1, len(titles) + 1)]
    items = pa.table({"item_id": ids, "title": titles, **(columns or {})})
    users = pa.table({"user_id": [f"u{u}" for u in range(len(histories))]})
    events = leave_one_out(histories)
    return write_dataset(
        path,
        items=items,
        users=users,
        events=events,
        sources=[],
        options={"split": "leave-one-out", "allow_sorted": allow_sorted},
        statistics={
            "items": len(ids),
            "users": len(histories),
            "events": len(events.items),
        },
        warnings=[],
    )


def looping_dataset(path: Path) -> Dataset:
    """Writes 60 users with 3 to 14 items each of a catalogue of 40, in loops so that there is something to
    learn, with hashed text embeddings."""
    from seqloom.pipelines.embed.embed import embed
    from seqloom.pipelines.embed.options import EmbedOptions

    draw = torch.Generator().manual_seed(0)
    histories = []
    for _ in range(60):
        start, step, length = (int(torch.randint(high, (), generator=draw)) for high in (40, 3, 12))
        histories.append([(start + (step + 1) * i) % 40 + 1 for i in range(3 + length)])
    titles = [f"{'red' if i % 2 else 'blue'} thing number {i}" for i in range(1, 41)]
    made = tiny_dataset(path, histories, titles)
    embed(made, EmbedOptions(encoder="hash", users="mean"))
    return made


def prepared_dataset(path: Path, users: int = 60, items: int = 40) -> Dataset:
    """Prepares a data set from a log, with hashed text embeddings of items and users."""
    from seqloom.pipelines.embed.embed import embed
    from seqloom.pipelines.embed.options import EmbedOptions
    from seqloom.pipelines.prepare.options import PrepareOptions
    from seqloom.pipelines.prepare.prepare import prepare

    draw = torch.Generator().manual_seed(0)
    rows = []
    for user in range(users):
        start, length = (int(torch.randint(high, (), generator=draw)) for high in (items, 12))
        # Squares of steps make some items more popular than others.
        chosen = [(start + step * step) % items for step in range(3 + length)]
        rows += [(f"u{user}", f"i{item}", time) for time, item in enumerate(chosen)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    texts = [f"{'red' if n % 2 else 'blue'} thing number {n}" for n in range(items)]
    table = pl.DataFrame({"item_id": [f"i{n}" for n in range(items)], "title": texts})
    made = prepare(log, path, items=table, options=PrepareOptions(min_count=1))
    embed(made, EmbedOptions(encoder="hash", users="mean"))
    return made


SMALL: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 16,
    "encoder": {"hidden_size": 16, "max_len": 8},
}
"""A configuration under which a sequence system trains in a moment."""


SMALL_LLMESR: dict[str, Any] = {**SMALL, "semantic": {"tower": SMALL}}
"""The same for LLM-ESR, whose text tower is trained first."""


SMALL_MODEL = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "feed_forward_size": 32}
SMALL_IDGENREC: dict[str, Any] = {
    "epochs": 1,
    "rounds": 2,
    "batch_size": 16,
    "max_len": 6,
    "num_beams": 8,
    "vocab_size": 400,
    "generation": {"tagging_epochs": 1, "max_history": 2},
    "ids": {"max_text_tokens": 16},
    "generator": {"source": "t5", **SMALL_MODEL},
    "recommender": {"source": "llama", **SMALL_MODEL},
}
"""The same for IDGenRec: two models from scratch."""


def small_config(system: str) -> dict:
    """Returns a configuration that trains in a moment."""
    if system == "e4srec":
        model = {"name": str(shared_tiny_llama()), "num_layers": 1}
        small = {"epochs": 1, "batch_size": 16, "max_len": 8, "llm": model}
        return {**small, "ids": {"config": SMALL}, "tower": SMALL}
    if system == "llmesr":
        return SMALL_LLMESR
    if system == "bpr":
        return {"epochs": 1, "batch_size": 16, "hidden_size": 16, "max_len": 8}
    if system == "idgenrec":
        return SMALL_IDGENREC
    if system == "melt":
        return {**SMALL, "branches": {"epochs": 1}, "joint": {"epochs": 1}}
    if system == "cities":  # nothing in a small data set is below five events
        return {**SMALL, "inference": {"tail_below": None, "epochs": 1}}
    return {} if system in ("popularity", "itemknn", "textknn", "graphknn") else SMALL


def walkers(path: Path, items: int = 25) -> Dataset:
    """30 users who walk through items whose titles have three of ten words."""
    words = ["red", "blue", "green", "hand", "hair", "nail", "soap", "cream", "brush", "oil"]
    titles = [f"{words[i % 3]} {words[3 + i % 4]} {words[6 + i % 4]}" for i in range(items)]
    histories = [[(u + 3 * n) % items + 1 for n in range(4 + u % 5)] for u in range(30)]
    return tiny_dataset(path, histories, titles)
