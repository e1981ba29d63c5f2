"""A run trained again from its manifest: the same bits on a CPU, and what differs where they do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.cli.main import run as cli
from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.files import read_json, write_json
from seqloom.data.store import Dataset
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.experiments.reproduce import reproduce
from seqloom.pipelines.train.train import TrainSummary, train
from seqloom.runs.folder import load_run
from support.datasets import small_config


@pytest.fixture(scope="module")
def trained(shop: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of llmesr with three evaluations."""
    out = tmp_path_factory.mktemp("runs") / "llmesr"
    config = {**small_config("llmesr"), "epochs": 2}
    train(shop, "llmesr", out=out, config=config, device="cpu")
    evaluate(out)
    evaluate(out, mask_seen=False)
    evaluate(out, protocol="sampled", negatives=10)
    return out


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """The same run, to be changed."""
    import shutil

    return shutil.copytree(trained, tmp_path / "copy")


def change(run: Path, edit: Callable[..., Any]) -> None:
    file = run / "manifest.json"
    manifest = read_json(file, "run")
    edit(manifest)
    write_json(file, manifest)


def change_seed(run: Path) -> None:
    """Changes the seed of a run's configuration, and forgets the hash of the former values."""
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("seed: 42", "seed: 43"))
    change(run, lambda manifest: manifest.update(config_sha256=""))


def test_on_a_cpu_the_bits_are_the_same(trained: Path, tmp_path: Path) -> None:
    result = reproduce(trained, out=tmp_path / "again")
    assert result.verdict == "bits"
    assert result.weights_equal
    assert (result.changes, result.ranks_apart, result.first_epoch_apart) == ([], 0, None)
    names = {check.evaluation for check in result.metrics}
    full = {"metrics.json", "metrics-unmasked.json"}
    assert names == {*full, "metrics-sampled10-unmasked.json", "valid"}  # seen items are kept
    assert all(check.difference == 0 for check in result.metrics)


def test_the_number_of_threads_is_the_runs_and_comes_back(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(copy, lambda m: m["cost"].update(threads=2))
    before, seen = torch.get_num_threads(), []
    from seqloom.pipelines.experiments import reproduce as module

    def spy(*arguments: Any, **options: Any) -> TrainSummary:
        seen.append(torch.get_num_threads())
        return train(*arguments, **options)

    monkeypatch.setattr(module, "train", spy)
    reproduce(copy, out=tmp_path / "again")
    assert seen == [2]
    assert torch.get_num_threads() == before


def test_what_differs_is_named(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(copy, lambda m: m["versions"].update(torch="1.0"))
    change_seed(copy)
    file = copy / "metrics.json"
    evaluation = read_json(file, "evaluation")
    evaluation["metrics"]["hr@20"] += 10
    write_json(file, evaluation)
    code = cli(["reproduce", str(copy), "--out", str(tmp_path / "again"), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert code == 1
    assert document["verdict"] == "differs"
    assert "torch: 1.0 then" in document["sentence"]
    assert [change["what"] for change in document["changes"]] == ["torch"]
    assert document["first_epoch_apart"] == 1
    assert document["largest_weight_difference"] > 0
    assert not document["weights_equal"]


def test_a_wide_tolerance_takes_other_bits(copy: Path, tmp_path: Path) -> None:
    change_seed(copy)
    result = reproduce(copy, out=tmp_path / "again", tolerance=1.0)
    assert result.verdict == "metrics"
    assert result.ranks_apart > 0


def test_an_ensemble_is_made_again_of_the_same_members(
    trained: Path, shop: Dataset, tmp_path: Path
) -> None:
    train(shop, "popularity", out=tmp_path / "popularity", device="cpu")
    runs = {"runs": [str(trained), str(tmp_path / "popularity")]}
    train(shop, "ensemble", out=tmp_path / "both", config=runs, device="cpu")
    assert reproduce(tmp_path / "both").verdict == "bits"
    assert (tmp_path / "both-again").is_dir()


def test_what_cannot_be_reproduced_is_reported(copy: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is the run itself"):
        reproduce(trained, out=trained)
    change(copy, lambda m: m["dataset"].update(fingerprint="0" * 64))
    with pytest.raises(ArtefactError, match="not the data set of the run"):
        reproduce(copy, out=tmp_path / "again")
    change(copy, lambda m: m.update(added_items=1))
    with pytest.raises(ConfigError, match="added after training"):
        reproduce(copy, out=tmp_path / "again")


def test_the_decision_on_seen_items_is_that_of_the_run(shop: Dataset, tmp_path: Path) -> None:
    """A run of an older version masked seen items, whatever its data set says now."""
    runs = {}
    for masked in (True, False):
        runs[masked] = tmp_path / str(masked)
        data = shop.deciding(masked)
        train(data, "sasrec", out=runs[masked], config=small_config("sasrec"), device="cpu")
    valid = {masked: load_run(path).manifest.valid for masked, path in runs.items()}
    assert valid[True] != valid[False]
    other = runs[not shop.masks_seen]
    result = reproduce(other, out=tmp_path / "again")
    assert result.verdict == "bits"
    assert load_run(tmp_path / "again").manifest.mask_seen != shop.masks_seen
