"""Every file of a run and of a data set, damaged: an error that names it, or the same result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import ArtefactError
from seqloom.core.files import read_json, write_json
from seqloom.core.tensors import write_tensors
from seqloom.data.store import Dataset, Manifest
from seqloom.evaluation.protocol import RankingProtocol
from seqloom.evaluation.ranks_file import read_ranks
from seqloom.pipelines.audit import audit
from seqloom.pipelines.audit.stored import read_audit
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.evaluate.stored import evaluation_files, read_evaluation
from seqloom.pipelines.recommend.add_items import add_items
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.runs.manifest import write_manifest
from seqloom.runs.run_files import write_weights
from seqloom.text.store import TextManifest, load_embeddings
from seqloom.training.loop import Trainer
from support.damage import faults
from support.datasets import SMALL, prepared_dataset


class StopError(Exception):
    """The training is stopped here."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set and a run of every kind of file."""
    root = tmp_path_factory.mktemp("made")
    data = prepared_dataset(root / "data", users=30, items=20)
    load_embeddings(data).similar_users(3)
    config = {**SMALL, "semantic": {"encoder": "shared"}, "distillation": {"alpha": 0.1}}
    train(data, "llmesr", out=root / "run", config=config, device="cpu")
    evaluate(root / "run", device="cpu")
    audit(root / "run", encode=False)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


def use_run(path: Path, data: Dataset) -> tuple[Any, ...]:
    run = load_run(path)
    details = RankingProtocol(split=data.split, fingerprint=data.fingerprint)
    actual = read_evaluation(path, details)
    table = read_ranks(evaluation_files(path, details)[1])
    stored = read_audit(path)
    return (
        run.manifest,
        run.items.to_pydict(),
        run.popularity.tolist(),
        run.log,
        run.recommend([[run.item_ids[0], run.item_ids[3]]], k=5),
        actual,
        table.ranks.tolist(),
        table.user_ids.to_pylist(),
        stored.audit if stored else None,
    )


def use_dataset(
    path: Path,
) -> tuple[
    Manifest, Any, Any, dict[str, list[Any]], TextManifest, list[Any], list[Any] | Any, list[Any]
]:
    data = Dataset.load(path)
    text = load_embeddings(data)
    arrays = data.events.tensors()
    return (
        data.manifest,
        data.items.to_pydict(),
        data.users.to_pydict(),
        {name: tensor.tolist() for name, tensor in arrays.items()},
        text.manifest,
        text.items.tolist(),
        text.users.tolist(),
        text.similar_users(3).tolist(),
    )


def damaged_run(root: Path, flips: int) -> list[str]:
    data = Dataset.load(root / "data")
    run = root / "run"
    names = ("manifest.json", "config.yaml", "weights.safetensors", "items.parquet")
    more = ("popularity.safetensors", "log.jsonl", "metrics.json", "ranks.parquet")
    files = [run / name for name in (*names, *more)]
    others = [(root / "data" / name).read_bytes() for name in ("items.parquet", "manifest.json")]
    return faults(
        files,
        lambda: use_run(run, data),
        flips=flips,
        others=others,
        may_be_missing=("metrics.json", "ranks.parquet"),  # then the run is not evaluated
    )


def damaged_dataset(root: Path, flips: int) -> list[str]:
    folder = root / "data"
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    assert len(files) == 9, [file.name for file in files]
    others = [(root / "run" / name).read_bytes() for name in ("items.parquet", "manifest.json")]
    return faults(
        files,
        lambda: use_dataset(folder),
        flips=flips,
        others=others,
        may_be_missing=("neighbours-3.safetensors", "neighbours-10.safetensors"),  # made again
    )


def test_a_damaged_run_is_an_error_or_the_same(root: Path) -> None:
    assert damaged_run(root, flips=3) == []


def test_a_damaged_data_set_is_an_error_or_the_same(root: Path) -> None:
    assert damaged_dataset(root, flips=3) == []


@pytest.mark.slow
def test_many_flipped_bits_of_a_run(root: Path) -> None:
    assert damaged_run(root, flips=300) == []


@pytest.mark.slow
def test_many_flipped_bits_of_a_data_set(root: Path) -> None:
    assert damaged_dataset(root, flips=300) == []


def test_folders_of_an_older_seqloom_load_without_hashes(root: Path) -> None:
    """As they were written before there were hashes: every field of this version left out."""
    data, run = root / "data", root / "run"
    expected = use_dataset(data)[1:4], use_run(run, Dataset.load(data))[1:5]
    for file, gone in (
        (data / "manifest.json", ("files",)),
        (run / "manifest.json", ("records", "config_sha256", "trained_sha256")),
        (run / "metrics.json", ("weights_sha256", "ranks_sha256")),
    ):
        raw = read_json(file, "document")
        write_json(file, {key: value for key, value in raw.items() if key not in gone})
    assert (use_dataset(data)[1:4], use_run(run, Dataset.load(data))[1:5]) == expected


def test_without_a_hash_ranges_are_still_checked(root: Path) -> None:
    folder = root / "data"
    raw = read_json(folder / "manifest.json", "data set")
    write_json(folder / "manifest.json", {**raw, "files": {}})
    arrays = Dataset.load(folder).events.tensors()
    for name, place, value, message in (
        ("items", 3, 21, "not 1 to 20"),
        ("items", 3, 0, "not 1 to 20"),
        ("offsets", 1, 10**6, "does not rise"),
        ("offsets", -1, 5, "does not rise"),
        ("train_end", 0, 10**6, "outside its user's events"),
        ("valid", 0, -2, "outside its user's events"),
        ("test", 1, 0, "outside its user's events"),
    ):
        changed = {key: tensor.clone() for key, tensor in arrays.items()}
        changed[name][place] = value
        write_tensors(folder / "events.safetensors", changed)
        with pytest.raises(ArtefactError, match=message):
            Dataset.load(folder)
    write_tensors(folder / "events.safetensors", {**arrays, "items": arrays["items"].long()})
    with pytest.raises(ArtefactError, match=r"'items' is torch\.int64"):
        Dataset.load(folder)


def test_ranks_and_metrics_of_another_run_are_refused(root: Path) -> None:
    data = Dataset.load(root / "data")
    details = RankingProtocol(split=data.split, fingerprint=data.fingerprint)
    train(data, "popularity", out=root / "other", device="cpu")
    evaluate(root / "other", device="cpu")
    shutil.copy(root / "other" / "ranks.parquet", root / "run" / "ranks.parquet")
    with pytest.raises(ArtefactError, match=r"ranks\.parquet was damaged or changed since metrics"):
        read_evaluation(root / "run", details)
    shutil.copy(root / "other" / "metrics.json", root / "run" / "metrics.json")
    with pytest.raises(ArtefactError, match="belongs to weights"):
        read_evaluation(root / "run", details)


def test_weights_that_are_not_numbers_are_refused(root: Path) -> None:
    run = load_run(root / "run")
    state = dict(run.system.saved_state())
    name = next(name for name, value in state.items() if value.is_floating_point())
    state[name] = torch.full_like(state[name], float("nan"))
    sha256 = write_weights(root / "run", state)
    write_manifest(root / "run", run.manifest.model_copy(update={"weights_sha256": sha256}))
    with pytest.raises(ArtefactError, match="holds NaN in"):
        load_run(root / "run")


def test_config_may_be_formatted_otherwise_but_not_changed(root: Path) -> None:
    file = root / "run" / "config.yaml"
    text = file.read_text()
    file.write_text(f"# a comment\n{text}")
    load_run(root / "run")
    file.write_text(text.replace("seed: 42", "seed: 43"))
    with pytest.raises(ArtefactError, match=r"config\.yaml was changed since training"):
        load_run(root / "run")


def test_a_damaged_checkpoint_is_not_resumed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest_end = Trainer._end_epoch

    def end_epoch(self: Any, phase: Any) -> None:
        if self.position.epoch == 2:
            raise StopError
        honest_end(self, phase)

    config = {**SMALL, "epochs": 3}
    monkeypatch.setattr(Trainer, "_end_epoch", end_epoch)
    with pytest.raises(StopError):
        train(root / "data", "sasrec", out=root / "two", config=config, device="cpu")
    monkeypatch.setattr(Trainer, "_end_epoch", honest_end)
    for name in ("model.safetensors", "optimiser.safetensors", "position.json", "hashes.json"):
        file = root / "two" / "checkpoints" / "last" / name
        honest = file.read_bytes()
        changed = bytearray(honest)
        changed[-20] ^= 1
        file.write_bytes(changed)
        with pytest.raises(ArtefactError, match=name.replace(".", r"\.")):
            train(root / "data", "sasrec", out=root / "two", config=config, resume=True)
        file.write_bytes(honest)
    train(root / "data", "sasrec", out=root / "two", config=config, resume=True, device="cpu")


def test_added_items_keep_evaluations_and_have_hashes(root: Path) -> None:
    data = Dataset.load(root / "data")
    items = root / "new.csv"
    items.write_text("item_id,title\nnew,red thing number 1\n")
    run = root / "textknn"
    train(data, "textknn", out=run, device="cpu")
    evaluate(run, device="cpu")
    add_items(run, items)
    details = RankingProtocol(split=data.split, fingerprint=data.fingerprint)
    assert read_evaluation(run, details) is not None
    records = json.loads((run / "manifest.json").read_text())["records"]
    assert set(records) == {"items.parquet", "popularity.safetensors", "log.jsonl"}
    assert load_run(run).item_ids[-1] == "new"
    (run / "items.parquet").write_bytes((root / "data" / "items.parquet").read_bytes())
    with pytest.raises(ArtefactError, match="was damaged or changed"):
        _ = load_run(run).items
