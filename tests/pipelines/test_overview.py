"""Lists of runs, and descriptions of one run or data set."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seqloom.core.errors import ArtefactError
from seqloom.data.store import Dataset
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.overview import describe, list_runs
from seqloom.pipelines.train.train import train
from support.datasets import small_config


@pytest.fixture(scope="module")
def folder(shop: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    train(shop, "popularity", out=root / "a/popularity")
    train(shop, "sasrec", out=root / "sasrec", config=small_config("sasrec"), device="cpu")
    evaluate(root / "sasrec")
    return root


def test_runs_are_listed_with_their_metrics(folder: Path) -> None:
    found = list_runs(folder)
    assert [run.run for run in found.runs] == ["sasrec", "a/popularity"]
    metrics = json.loads((folder / "sasrec/metrics.json").read_text())["metrics"]
    row = found.as_rows()[0]
    assert row["test ndcg@10"] == metrics["ndcg@10"]
    assert row["system"] == "sasrec"
    assert found.as_rows()[1]["test ndcg@10"] is None
    assert repr(found) == f"<2 runs in {folder}>"


def test_a_run_itself_may_be_named(folder: Path) -> None:
    assert [run.run for run in list_runs(folder / "sasrec").runs] == ["sasrec"]


def test_a_damaged_run_is_listed_as_such(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "broken"
    run.mkdir()
    (run / "manifest.json").write_text("{")
    (run / "config.yaml").write_text("")
    (found,) = list_runs(tmp_path).runs
    assert found.status == "damaged"
    assert "manifest.json" in str(found.problem)
    with pytest.raises(ArtefactError, match="there is no folder"):
        list_runs(tmp_path / "none")


def test_a_run_is_described(folder: Path, shop: Dataset) -> None:
    found = describe(folder / "sasrec")
    assert found.kind == "run"
    assert found.values["data set"] == str(shop.path)
    assert found.config["encoder"]["kind"] == "sasrec"
    assert {row["users"] for row in found.rows} >= {"all", "tail_item"}


def test_a_data_set_is_described(shop: Dataset) -> None:
    found = describe(shop.path)
    assert found.values["users"] == 60
    assert found.values["split"] == "leave-one-out"
    assert [row["text embeddings"] for row in found.rows] == ["hash"]


def test_what_is_neither_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError):
        describe(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": "other"}')
    with pytest.raises(ArtefactError, match="neither a run nor a prepared data set"):
        describe(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": "seqloom-run"}')
    with pytest.raises(ArtefactError, match="is damaged"):
        describe(tmp_path)


def test_listing_loads_no_torch(folder: Path) -> None:
    code = (
        "import sys; from seqloom.pipelines.overview import describe, list_runs; "
        f"list_runs({str(folder)!r}); describe({str(folder / 'sasrec')!r}); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
