"""Lists in shards are the lists of a single call."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from seqloom.cli.main import run
from seqloom.core.batching import LIST_LIMITS
from seqloom.core.errors import ArtefactError
from seqloom.data.store import Dataset
from seqloom.jobs.local import LocalRunner
from seqloom.jobs.shards import Shard, every_shard
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.prepare import prepare
from seqloom.pipelines.recommend import recommend_shards
from seqloom.pipelines.recommend.recommend import recommend
from seqloom.pipelines.recommend.recommend_shards import (
    ListsJob,
    merge_lists,
    open_lists,
    recommend_by,
    recommend_shard,
)
from seqloom.pipelines.train.train import train
from seqloom.runs import recommendations
from seqloom.runs.recommendations import Recommendation
from support.datasets import SMALL


@pytest.fixture(scope="module")
def model(shop: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "sasrec"
    train(shop, "sasrec", config=SMALL, out=out)
    return out


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight users a block, so that 60 users are several."""
    limits = dataclasses.replace(LIST_LIMITS, rows=8)
    monkeypatch.setattr(recommendations, "LIST_LIMITS", limits)
    monkeypatch.setattr(recommend_shards, "LIST_LIMITS", limits)


def job(model: Path, tmp_path: Path, **values: Any) -> ListsJob:
    return ListsJob(run=str(model), out=str(tmp_path / "lists"), **{"k": 4, **values})


def rows(lists: list[Recommendation]) -> list[Any]:
    return [
        (entry.user, rank, item.item_id, item.title, item.score)
        for entry in lists
        for rank, item in enumerate(entry.items, start=1)
    ]


@pytest.mark.parametrize("count", [1, 3, 20])
def test_shards_as_one_are_the_lists_of_a_single_call(
    model: Path, tmp_path: Path, count: int
) -> None:
    requested = job(model, tmp_path)
    for shard in reversed(every_shard(count)):
        recommend_shard(requested, shard)
    summary = merge_lists(requested)
    manifest, table = open_lists(requested.out)
    expected = rows(recommend(model, all_users=True, k=4))
    assert [tuple(row.values()) for row in table.to_pylist()] == expected
    assert (summary.users, summary.rows, manifest.shards) == (60, 240, count)
    assert pq.read_table(requested.out).num_rows == 240


def test_users_of_a_file_keep_their_order(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "users.txt"
    file.write_text("\n".join(f"u{n}" for n in reversed(range(30))) + "\n")
    requested = job(model, tmp_path, users=str(file))
    for shard in every_shard(2):
        recommend_shard(requested, shard)
    merge_lists(requested)
    _, table = open_lists(requested.out)
    actual = table.column("user_id").to_pylist()[::4]
    assert actual == [f"u{n}" for n in reversed(range(30))]


def test_a_finished_shard_is_left_alone_and_a_damaged_one_refused(
    model: Path, tmp_path: Path
) -> None:
    requested = job(model, tmp_path)
    recommend_shard(requested, Shard(0, 2))
    file = tmp_path / "lists" / "lists-00000-of-00002.parquet"
    before = file.stat().st_mtime_ns
    assert recommend_shard(requested, Shard(0, 2)).reused == 1
    assert file.stat().st_mtime_ns == before
    with pytest.raises(ArtefactError, match="--overwrite"):
        recommend_shard(job(model, tmp_path, k=5), Shard(0, 2))
    file.write_bytes(b"half a file")
    with pytest.raises(ArtefactError, match="damaged"):
        recommend_shard(requested, Shard(0, 2))
    assert recommend_shard(requested, Shard(0, 2), overwrite=True).reused == 0


def test_an_incomplete_folder_does_not_open(model: Path, tmp_path: Path) -> None:
    requested = job(model, tmp_path)
    recommend_shard(requested, Shard(1, 3))
    with pytest.raises(ArtefactError, match=r"2 of 3 shards are missing .*: 0/3, 2/3"):
        merge_lists(requested)
    with pytest.raises(ArtefactError, match="complete"):
        open_lists(requested.out)
    recommend_shard(requested, Shard(0, 2))
    with pytest.raises(ArtefactError, match="2 divisions"):
        merge_lists(requested)


def test_worker_processes_and_the_command_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LocalRunner(2) as engine:
        made = recommend_by(engine, job(model, tmp_path), shards=2)
    assert (made.users, made.rows, made.reused) == (60, 240, 0)
    command = ["recommend", str(model), "--all-users", "--k", "4", "--json"]
    assert run([*command, "--out", made.out, "--merge"]) == 0
    assert json.loads(capsys.readouterr().out)["shards"] == 2
    assert run([*command, "--shard", "0/2"]) == 2
    assert "--out FOLDER" in capsys.readouterr().err
    assert run([*command, "--out", made.out]) == 2
    assert "--shard 0/1" in capsys.readouterr().err


def test_items_without_text_have_no_title(tmp_path: Path) -> None:
    log = pl.DataFrame({"user_id": ["a", "a", "a", "b"], "item_id": ["x", "y", "z", "x"]})
    made = prepare(log, tmp_path / "data", options=PrepareOptions(min_count=0))
    train(made, "popularity", out=tmp_path / "run")
    requested = job(tmp_path / "run", tmp_path)
    recommend_shard(requested, Shard(0, 1))
    merge_lists(requested)
    _, table = open_lists(requested.out)
    assert table.column("title").to_pylist() == [None, None]
    assert table.column("user_id").to_pylist() == ["b", "b"]
