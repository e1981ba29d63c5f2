"""Followers and text, against slow loops."""

from __future__ import annotations

import math
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.core.protocols import NewItems, VectorScorer
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.systems.graphknn import count_followers
from seqloom.text.store import load_embeddings
from support.datasets import tiny_dataset

HISTORIES = [[3], [1, 2, 9], [40, 7, 7, 12, 5]]


def made(dataset: Dataset, folder: Any, **config: Any) -> Any:
    train(dataset, "graphknn", out=folder, config=config, device="cpu")
    return load_run(folder)


def slow_counts(rows: Any, window: Any, skip: Any) -> Any:
    """c[j][i], written from the definition."""
    counts: Any = defaultdict(lambda: defaultdict(float))
    for row in rows:
        for later, item in enumerate(row):
            for earlier in range(max(0, later - window), later):
                if row[earlier] != item:
                    counts[row[earlier]][item] += skip ** (later - earlier - 1)
    return counts


def expected(dataset: Dataset, vectors: Any, config: Any) -> Any:
    """Scores of HISTORIES, one item at a time."""
    train_part = dataset.train
    rows = [
        train_part.items[s:e].tolist()
        for s, e in zip(train_part.starts, train_part.ends, strict=True)
    ]
    counts = slow_counts(rows, config["window"], config["skip"])
    scores = np.zeros((len(HISTORIES), dataset.num_items))
    for number, history in enumerate(HISTORIES):
        for age, source in enumerate(history[: -config["max_len"] - 1 : -1]):
            weight, after = config["decay"] ** age, counts[source]
            for item in range(1, dataset.num_items + 1):
                scores[number, item - 1] += (
                    weight * config["text_weight"] * float(vectors[source - 1] @ vectors[item - 1])
                )
                if after[item]:
                    share = math.log1p(after[item]) / math.log1p(max(after.values()))
                    scores[number, item - 1] += weight * config["follower_weight"] * share
    return scores


@pytest.mark.parametrize(
    "changed",
    [{}, {"window": 1}, {"skip": 0.3, "follower_weight": 2.0, "max_len": 2}, {"decay": 1.0}],
)
def test_scores_are_followers_and_text(dataset: Dataset, tmp_path: Path, changed: Any) -> None:
    run = made(dataset, tmp_path / "run", **changed)
    config = run.system.config.model_dump()
    batch = Sequences.from_lists(HISTORIES).pad(run.system.max_len)
    want = expected(dataset, run.system.vectors.numpy(), config)
    found = run.scorer.score(batch.items, batch.lengths)
    np.testing.assert_allclose(found.numpy(), want, atol=2e-5)
    assert not isinstance(run.scorer, VectorScorer)


def test_followers_are_directed_and_counted_by_distance() -> None:
    train_part = Sequences.from_lists([[1, 2, 3], [1, 2], [3, 3, 1]])
    rows, counts = count_followers(train_part, torch.tensor([0, 1, 2, 3]), 3, 2, 0.5)
    assert counts.tolist() == [[2, 0.5, 0], [1, 0, 0], [1.5, 0, 0], [0, 0, 0]]
    assert rows[0].tolist() == [1, 2, 0]
    assert rows[1, 0] == 2
    assert rows[2, 0] == 0
    nearest, only = count_followers(train_part, torch.tensor([0, 1, 2, 3]), 1, 1, 0.5)
    assert only.tolist() == [[2], [1], [1], [0]]
    assert nearest.shape == (4, 1)


def test_equal_counts_are_kept_by_the_key() -> None:
    train_part = Sequences.from_lists([[1, 2], [1, 3], [1, 4]])
    rows, _ = count_followers(train_part, torch.tensor([9, 7, 3, 5]), 2, 5, 0.5)
    assert rows[0].tolist() == [2, 3]


def test_without_text_it_reads_no_embedding(dataset: Dataset, tmp_path: Path) -> None:
    bare = Dataset.load(shutil.copytree(dataset.path, tmp_path / "data"))
    shutil.rmtree(bare.path / "text")
    run = made(bare, tmp_path / "run", text_weight=0.0)
    assert run.manifest.text is None
    assert not run.system.uses_language_model
    assert evaluate(tmp_path / "run").metrics["hr@10"] > 0
    with pytest.raises(ConfigError, match="text_weight=0"):
        run.system.rows_of(lambda: pytest.fail("nothing is fitted"))
    whole = made(dataset, tmp_path / "whole")
    assert whole.system.reads_text
    assert not run.system.reads_text
    batch = Sequences.from_lists(HISTORIES).pad(10)
    both = [each.scorer.score(batch.items, batch.lengths) for each in (run, whole)]
    text: Any = load_run(tmp_path / "whole").system.vectors
    by_text = both[1] - both[0]
    assert torch.allclose(by_text[0], text @ text[2], atol=1e-5)


def with_new_items(run: Any, dataset: Dataset, texts: torch.Tensor) -> Any:
    """A scorer over the catalogue and items with these texts, and the longer tables."""
    tables = run.item_tables
    for number, text in enumerate(texts):
        new = NewItems([f"x{number}"], dataset.items.slice(0, 1), text[None])
        rows = run.system.rows_of(lambda: pytest.fail("nothing has to be fitted"))(new, tables)
        tables = {name: torch.cat([tables[name], rows.tables[name]]) for name in tables}
    return run.system.scorer_over(tables), tables


@pytest.mark.parametrize("new_weight", [1.5, 0.5])
def test_nearest_texts_stand_in_for_a_new_item(
    dataset: Dataset, tmp_path: Path, new_weight: float
) -> None:
    run = made(dataset, tmp_path / "run", new_weight=new_weight)
    config, vectors = run.system.config, run.system.vectors.double().numpy()
    given = load_embeddings(dataset).items
    text = (given[[4]] + 0.5 * given[[11]]) / 2
    longer, tables = with_new_items(run, dataset, text)
    count = dataset.num_items
    own = tables["vectors"][-1].double().numpy()
    # Written from the definition: the three nearest texts, by the cube of their cosines.
    cosines = vectors @ own
    nearest = np.argsort(-cosines)[:3]
    shares = np.maximum(cosines[nearest], 0) ** 3
    shares /= shares.sum()
    graph = np.zeros((count, count))
    for source in range(count):
        for item, strength in zip(
            run.system.followers[source], run.system.strengths[source], strict=True
        ):
            graph[source, int(item)] += float(strength)
    batch = Sequences.from_lists([[3], [count + 1]]).pad(4)
    found = longer.score(batch.items, batch.lengths).double().numpy()
    assert found.shape == (2, count + 1)
    as_follower = new_weight * float(graph[2, nearest] @ shares)
    np.testing.assert_allclose(found[0, -1], vectors[2] @ own + as_follower, atol=1e-5)
    as_source = new_weight * (shares @ graph[nearest])
    assert as_source.max() > 0
    assert (as_source > 0).sum() <= config.followers
    np.testing.assert_allclose(found[1, :-1], vectors @ own + as_source, atol=1e-5)
    kept = run.scorer.score(batch.items[:1], batch.lengths[:1]).double().numpy()
    np.testing.assert_allclose(found[:1, :-1], kept, atol=1e-6)


def test_new_items_stand_in_for_no_other_and_may_be_scored_by_text_alone(
    dataset: Dataset, tmp_path: Path
) -> None:
    given = load_embeddings(dataset).items
    run = made(dataset, tmp_path / "run")
    _, tables = with_new_items(run, dataset, given[[4, 4]])
    assert int(tables["stand_ins"][-1].max()) < dataset.num_items
    torch.testing.assert_close(tables["shares"][-1], tables["shares"][-2])
    bare = made(dataset, tmp_path / "bare", new_weight=0.0)
    longer, _ = with_new_items(bare, dataset, given[[4]])
    batch = Sequences.from_lists([[3], [dataset.num_items + 1]]).pad(4)
    found, vectors = longer.score(batch.items, batch.lengths), bare.system.vectors
    torch.testing.assert_close(found[0, -1], vectors[2] @ vectors[4])
    torch.testing.assert_close(found[1, :-1], vectors @ vectors[4])


def test_a_history_that_always_goes_on_the_same_way_is_learned(tmp_path: Path) -> None:
    around = [[(user + place) % 12 + 1 for place in range(8)] for user in range(36)]
    data = tiny_dataset(tmp_path / "data", around)
    made(data, tmp_path / "run", text_weight=0.0, window=1)
    assert evaluate(tmp_path / "run").metrics["mrr"] == 1.0
