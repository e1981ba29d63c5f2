"""Users whose first event is the one to be predicted: through training, evaluation and comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from seqloom.data.store import Dataset
from seqloom.pipelines.compare.compare import compare
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.prepare import prepare
from seqloom.pipelines.train.train import train
from support.datasets import small_config

HISTORIES = [[(user + step * (1 + user % 2)) % 12 for step in range(6)] for user in range(18)]
NEW = [3, 1, 7, 11]
"""The one item of each new user."""


def log() -> pl.DataFrame:
    """Known users have four events before the cut at 500, one between it and the cut at 600, one after."""
    rows = [
        (f"u{user}", f"i{item}", 100 * (step + 1) + user)
        for user, items in enumerate(HISTORIES)
        for step, item in enumerate(items)
    ]
    rows += [(f"n{user}", f"i{item}", 650 + user) for user, item in enumerate(NEW)]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("data") / "by-time"
    options = PrepareOptions(split="temporal", valid_from=500, test_from=600, min_count=0)
    return prepare(log(), path, options=options)


@pytest.fixture(scope="module")
def runs(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    folder = tmp_path_factory.mktemp("runs")
    for name in ("popularity", "itemknn", "sasrec", "bert4rec"):
        train(dataset, name, out=folder / name, config=small_config(name), device="cpu")
    return {path.name: path for path in sorted(folder.iterdir())}


def test_new_users_are_a_group_in_which_systems_do_not_differ(runs: dict[Any, Any]) -> None:
    actual = {name: evaluate(run) for name, run in runs.items()}
    for evaluation in actual.values():
        assert evaluation.users == 22
        assert evaluation.groups["new_user"]["users"] == 4
        assert evaluation.groups["known_user"]["users"] == 18
        expected = actual["popularity"].groups["new_user"]["metrics"]
        assert evaluation.groups["new_user"]["metrics"] == expected
        assert "popular items to users without a history" in evaluation.statement
    known = {name: each.groups["known_user"]["metrics"]["mrr"] for name, each in actual.items()}
    assert known["itemknn"] != known["popularity"]


def test_comparisons_test_the_known_users(runs: dict[Any, Any], tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    actual = compare([runs["popularity"], runs["itemknn"]], report=report)
    (pair,) = actual.pairs
    tested = {each.group: each.users for each in pair.differences}
    assert tested["known_user"] == 18
    assert "new_user" not in tested
    assert "New users" in report.read_text()


def test_without_new_users_there_is_no_such_group(tmp_path: Path) -> None:
    data = prepare(log(), tmp_path / "data", options=PrepareOptions(min_count=0))
    train(data, "popularity", out=tmp_path / "run", config={}, device="cpu")
    assert not {"new_user", "known_user"} & set(evaluate(tmp_path / "run").groups)
