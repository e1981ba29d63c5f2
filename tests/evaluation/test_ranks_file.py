"""Rank tables come back as they were written; damaged files are refused."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from seqloom.core.errors import ArtefactError
from seqloom.data.store import Dataset
from seqloom.evaluation.groups import default_thresholds
from seqloom.evaluation.ranks_file import read_ranks, write_ranks
from support.evaluated_runs import TableFactory


@pytest.fixture
def written(tmp_path: Path, make_table: TableFactory) -> Path:
    write_ranks(tmp_path / "ranks.parquet", make_table(torch.arange(1, 61), masked=False))
    return tmp_path / "ranks.parquet"


def test_columns_and_round_trip(written: Path, dataset: Dataset) -> None:
    frame = pq.read_table(written)
    assert frame.column("user_id").to_pylist() == dataset.user_ids
    held_out = dataset.held_out("test")
    targets = [dataset.item_ids[n - 1] for n in held_out.targets.tolist()]
    assert frame.column("target").to_pylist() == targets
    assert frame.column("rank").to_pylist() == list(range(1, 61))
    assert frame.column("history_length").to_pylist() == held_out.histories.lengths.tolist()
    about = json.loads(frame.schema.metadata[b"seqloom"])
    assert (about["format"], about["version"]) == ("seqloom-ranks", 1)
    assert about["protocol"]["fingerprint"] == dataset.fingerprint

    table = read_ranks(written)
    assert table.protocol.masked is False
    assert table.thresholds == default_thresholds(dataset)
    assert torch.equal(table.training_lengths, dataset.train.lengths)
    assert torch.equal(table.target_counts, dataset.popularity[held_out.targets])
    assert len(table) == 60
    assert set(table.members) == {"tail_item", "head_item", "tail_user", "head_user"}


def test_tied_targets_come_back_as_two_groups(
    tmp_path: Path, make_table: TableFactory, dataset: Dataset
) -> None:
    ranks, tied = torch.arange(1, 61), torch.arange(60) % 4 == 0
    table = make_table(ranks)
    write_ranks(tmp_path / "ranks.parquet", replace(table, tied=tied))
    read = read_ranks(tmp_path / "ranks.parquet")
    assert read.tied is not None
    assert read.tied.tolist() == tied.tolist()
    assert read.members["tied_target"].tolist() == tied.tolist()
    assert read.members["untied_target"].tolist() == (~tied).tolist()
    write_ranks(tmp_path / "ranks.parquet", table)
    assert read_ranks(tmp_path / "ranks.parquet").tied is None


def change(path: Path, key: str, value: object) -> None:
    frame = pq.read_table(path)
    about = json.loads(frame.schema.metadata[b"seqloom"]) | {key: value}
    pq.write_table(frame.replace_schema_metadata({b"seqloom": json.dumps(about)}), path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("version", 99, "rank format 99"),
        ("format", "other", "not a rank file"),
        ("protocol", {"kind": "odd"}, "damaged"),
        ("thresholds", None, "damaged"),
    ],
)
def test_foreign_metadata_is_refused(written: Path, key: str, value: object, message: str) -> None:
    change(written, key, value)
    with pytest.raises(ArtefactError, match=message):
        read_ranks(written)


def test_missing_and_damaged_files_are_refused(written: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="missing"):
        read_ranks(tmp_path / "nothing.parquet")
    frame = pq.read_table(written)
    pq.write_table(frame.drop_columns(["target"]), written)
    with pytest.raises(ArtefactError, match="no column target"):
        read_ranks(written)
    zero = pa.array([0] * 60, pa.int64())
    pq.write_table(frame.set_column(2, "rank", zero), written)
    with pytest.raises(ArtefactError, match="below 1"):
        read_ranks(written)
    written.write_bytes(b"no parquet")
    with pytest.raises(ArtefactError, match="damaged"):
        read_ranks(written)
    pq.write_table(pa.table({"a": [1]}), written)
    with pytest.raises(ArtefactError, match="not a rank file"):
        read_ranks(written)
