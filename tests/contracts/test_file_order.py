"""One log in several orders of its rows: times are the same, so every result of a counting system is."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from seqloom.data.store import Dataset
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.evaluate.stored import evaluation_files
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.prepare import prepare
from seqloom.pipelines.recommend.recommend import recommend
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run

ORDERS = ("oldest_first", "newest_first", "shuffled")


def log(kind: str) -> pl.DataFrame:
    """`all_tie`: every item once in training at most, and each user's target is new. `some_tie`: a shop."""
    draw = random.Random(5)
    rows = []
    for user in range(60):
        if kind == "all_tie":
            items = [f"a{user}", f"b{user}", f"c{(user * 7) % 60}"]
        else:
            items = [f"i{int(40 * draw.random() ** 2)}" for _ in range(4 + user % 5)]
        rows += [(f"u{user}", item, 1_000 * n + user) for n, item in enumerate(items)]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def ordered(frame: pl.DataFrame, order: str) -> pl.DataFrame:
    if order == "shuffled":
        return frame.sample(fraction=1.0, shuffle=True, seed=3)
    return frame.sort("timestamp", descending=order == "newest_first")


@pytest.fixture(scope="module", params=["all_tie", "some_tie"])
def shops(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Dataset]]:
    folder = tmp_path_factory.mktemp(request.param)
    frame = log(request.param)
    titles = sorted(frame["item_id"].unique())
    # Few different titles, so that texts tie too.
    items = pl.DataFrame({"item_id": titles, "title": [f"thing {hash_of(t) % 9}" for t in titles]})
    made = {}
    for order in ORDERS:
        shop = prepare(
            ordered(frame, order),
            folder / order / "data",
            items=items,
            options=PrepareOptions(min_count=1, allow_sorted=True),
        )
        embed(shop, EmbedOptions(encoder="hash", users="none"))
        made[order] = (folder / order, shop)
    return made


def hash_of(text: str) -> int:
    return sum(map(ord, text))


def everything(folder: Any, shop: Any, system: Any, config: Any = None) -> dict[Any, Any]:
    """All that a run says, by ids."""
    out = folder / system
    train(shop, system, out=out, config=config, device="cpu")
    run = load_run(out)
    full = evaluate(run)
    sampled = evaluate(run, protocol="sampled", negatives=10)
    ranks = {}
    from seqloom.evaluation.ranks_file import read_ranks

    for each in (full, sampled):
        table = read_ranks(evaluation_files(out, each.details)[1])
        pairs = zip(table.user_ids.to_pylist(), table.ranks.tolist(), strict=True)
        ranks[each.protocol] = dict(pairs)
    users = sorted(shop.user_ids)
    lists = {
        each.user: [item.item_id for item in each.items]
        for each in recommend(run, users=users, k=12, dataset=shop)
    }
    (newcomer,) = recommend(run, histories=[[]], k=12)
    return {
        "metrics": {k: pytest.approx(v, abs=1e-12) for k, v in full.metrics.items()},
        "sampled": {k: pytest.approx(v, abs=1e-12) for k, v in sampled.metrics.items()},
        "thresholds": full.thresholds.model_dump(),
        "groups": {name: group["users"] for name, group in full.groups.items()},
        "valid": {k: pytest.approx(v, abs=1e-12) for k, v in run.manifest.valid.items()},
        "ranks": ranks,
        "lists": lists,
        "newcomer": [item.item_id for item in newcomer.items],
    }


@pytest.mark.parametrize("system", ["popularity", "itemknn", "textknn", "graphknn"])
def test_the_order_of_the_rows_decides_nothing(
    shops: dict[str, tuple[Path, Dataset]], system: str
) -> None:
    config = {"itemknn": {"neighbours": 5}, "graphknn": {"followers": 5}}.get(system)
    actual = [everything(*shops[order], system, config) for order in ORDERS]
    for other in actual[1:]:
        for what, value in actual[0].items():
            assert other[what] == value, what
    assert len(actual[0]["newcomer"]) == 12


def test_an_ensemble_of_counting_systems_is_weighted_alike(
    shops: dict[str, tuple[Path, Dataset]],
) -> None:
    weights: list[Any] = []
    for order in ORDERS:
        folder, shop = shops[order]
        members = []
        for system in ("popularity", "itemknn"):
            train(shop, system, out=folder / f"m-{system}", device="cpu")
            members.append(str(folder / f"m-{system}"))
        config = {"runs": members, "candidates": 10, "others": 5}
        train(shop, "ensemble", out=folder / "ensemble", config=config, device="cpu")
        weights.append(load_run(folder / "ensemble").system.weights)
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def test_where_everything_ties_popularity_hits_nothing(
    shops: dict[str, tuple[Path, Dataset]],
) -> None:
    """A tie counts against the target; broken by first appearance it was .17 for the newest first."""
    folder, shop = shops["newest_first"]
    if int(shop.popularity.max()) > 1:
        pytest.skip("the log in which all items tie")
    actual = evaluate(train_popularity(folder, shop))
    assert actual.metrics["hr@10"] == 0.0
    document = json.loads((folder / "p" / "metrics.json").read_text())
    assert document["details"]["version"] == 2


def train_popularity(folder: Path, shop: Dataset) -> Path:
    train(shop, "popularity", out=folder / "p", device="cpu")
    return folder / "p"
