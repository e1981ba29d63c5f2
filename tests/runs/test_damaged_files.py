"""Every file of a run and of a data set, damaged: an error that names it, or the same result."""

import shutil

import pytest

from damage import faults
from helpers import SMALL, prepared_dataset
from seqloom.data.store import Dataset
from seqloom.evaluation.protocol import RankingProtocol
from seqloom.evaluation.ranks_file import read_ranks
from seqloom.runs.audit import audit
from seqloom.runs.audit.stored import read_audit
from seqloom.runs.evaluate import evaluate, evaluation_files, read_evaluation
from seqloom.runs.folder import load_run
from seqloom.runs.train import train
from seqloom.text.store import load_embeddings


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set and a run of every kind of file."""
    root = tmp_path_factory.mktemp("made")
    data = prepared_dataset(root / "data", users=30, items=20)
    load_embeddings(data).similar_users(3)
    train(data, "llmesr", out=root / "run", config=SMALL, device="cpu")
    evaluate(root / "run", device="cpu")
    audit(root / "run", encode=False)
    return root


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


def use_run(path, data):
    run = load_run(path)
    details = RankingProtocol(split=data.split, fingerprint=data.fingerprint)
    found = read_evaluation(path, details)
    table = read_ranks(evaluation_files(path, details)[1])
    stored = read_audit(path)
    return (
        run.manifest,
        run.items.to_pydict(),
        run.popularity.tolist(),
        run.log,
        run.recommend([[run.item_ids[0], run.item_ids[3]]], k=5),
        found,
        table.ranks.tolist(),
        table.user_ids.to_pylist(),
        stored.audit if stored else None,
    )


def use_dataset(path):
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


def damaged_run(root, flips):
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


def damaged_dataset(root, flips):
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


def test_a_damaged_run_is_an_error_or_the_same(root):
    assert damaged_run(root, flips=3) == []


def test_a_damaged_data_set_is_an_error_or_the_same(root):
    assert damaged_dataset(root, flips=3) == []


@pytest.mark.slow
def test_many_flipped_bits_of_a_run(root):
    assert damaged_run(root, flips=300) == []


@pytest.mark.slow
def test_many_flipped_bits_of_a_data_set(root):
    assert damaged_dataset(root, flips=300) == []
