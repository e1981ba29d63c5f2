"""The data sets that a run's weights depend on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seqloom.data.store import Dataset
from seqloom.runs.lineage import Lineage, TrainedOn, lineage_of, lineage_of_run
from support.datasets import tiny_dataset

HISTORIES = [[1, 2, 3, 4], [4, 3, 2, 1]]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return tiny_dataset(tmp_path / "data", HISTORIES)


def write_run(path: Path, dataset: Dataset, config: str = "", **manifest: Any) -> Path:
    """A folder with what lineage reads of a run."""
    path.mkdir()
    reference = {"path": str(dataset.path), "fingerprint": dataset.fingerprint}
    (path / "manifest.json").write_text(json.dumps({"dataset": reference, **manifest}))
    (path / "config.yaml").write_text(config)
    return path


def test_a_union_holds_each_data_set_one_time() -> None:
    a, b = TrainedOn(path="/x/a", fingerprint="1"), TrainedOn(path="/x/b", fingerprint="2")
    union = Lineage(datasets=[a], unknown=["why"]) + Lineage(datasets=[b, a], unknown=["more"])
    assert union == Lineage(datasets=[a, b], unknown=["why", "more"])
    assert union.datasets[1].name == "b"


def test_a_data_set_is_known_by_its_fingerprint_or_its_log(dataset: Dataset) -> None:
    other = TrainedOn(path="/x", fingerprint="other")
    own = TrainedOn(path="/moved", fingerprint=dataset.fingerprint)
    assert Lineage(datasets=[other, own]).holds(dataset) == own
    assert Lineage(datasets=[other]).holds(dataset) is None
    sources = [{"role": "log", "sha256": "abc"}, {"role": "items", "sha256": "def"}]
    dataset.manifest.__dict__["sources"] = sources
    by_log = TrainedOn(path="/x", fingerprint="other", logs=["abc"])
    by_items = TrainedOn(path="/x", fingerprint="other", logs=["def"])
    assert Lineage(datasets=[by_items, by_log]).holds(dataset) == by_log


def test_a_merged_data_set_has_the_lineage_of_its_parts(dataset: Dataset) -> None:
    part = {"path": "/a", "fingerprint": "1", "origins": [{"path": "/b", "fingerprint": "2"}]}
    dataset.manifest.__dict__["options"] = {"origins": [part]}
    prints = [each.fingerprint for each in lineage_of(dataset, None).datasets]
    assert prints == [dataset.fingerprint, "1", "2"]


def test_a_continued_run_adds_its_own_lineage(dataset: Dataset, tmp_path: Path) -> None:
    earlier = Lineage(datasets=[TrainedOn(path="/old", fingerprint="old")])
    run = write_run(tmp_path / "run", dataset, lineage=earlier.model_dump())
    prints = [each.fingerprint for each in lineage_of(dataset, run).datasets]
    assert prints == [dataset.fingerprint, "old"]


def test_a_run_without_a_record_is_traced_through_its_configuration(
    dataset: Dataset, tmp_path: Path
) -> None:
    first = write_run(tmp_path / "first", dataset)
    second = write_run(tmp_path / "second", dataset, f"start_from: {first}\n")
    lineage = lineage_of_run(second)
    assert [each.fingerprint for each in lineage.datasets] == [dataset.fingerprint]
    assert lineage.unknown == []


def test_what_cannot_be_traced_is_a_reason(dataset: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", dataset)
    dataset.path.rename(tmp_path / "moved")
    lineage = lineage_of_run(run)
    assert [each.fingerprint for each in lineage.datasets] == [dataset.fingerprint]
    (reason,) = lineage.unknown
    assert "no longer at" in reason
    (reason,) = lineage_of_run(tmp_path / "no-such-run").unknown
    assert "cannot be read" in reason
