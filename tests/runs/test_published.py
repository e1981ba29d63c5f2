"""Runs on the hub: pushed to and loaded from a stand-in, in a process that is not offline."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from seqloom.core.errors import ArtefactError, AssetError
from seqloom.data.store import Dataset
from seqloom.hub.run_repositories import is_hub_address, parse_address
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.runs.model_card import model_card
from seqloom.runs.published import check_published, write_published
from support.datasets import small_config
from support.hub_server import Repositories, hub_server

SCRIPT = """
import json, sys
import seqloom
run = seqloom.load_run(sys.argv[1])
address = run.push_to_hub("shop/next-item", licence="apache-2.0")
there = seqloom.load_run("hf://shop/next-item")
history = run.item_ids[:3]
same = there.recommend(history) == run.recommend(history)
from seqloom.pipelines.recommend.recommend import recommend
from pathlib import Path
by_path = recommend(Path("hf://shop/next-item"), histories=[history]) == run.recommend(history)
errors = []
for name in ("hf://shop/other", "hf://shop/no-run", "hf://shop/changed", "hf://shop", "hf://shop/extra"):
    try:
        seqloom.load_run(name)
    except seqloom.SeqloomError as error:
        errors.append(f"{type(error).__name__}: {error}")
print(json.dumps({"address": address, "same": same, "by_path": by_path, "errors": errors}))
"""


@pytest.fixture(scope="module")
def run(shop: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "next-item"
    train(shop, "llmesr", out=folder, config=small_config("llmesr"), device="cpu")
    evaluate(folder)
    return folder


def published(run: Path, folder: Path) -> dict[str, bytes]:
    """The files of a published run."""
    folder.mkdir()
    write_published(load_run(run), folder, licence=None)
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_a_run_goes_to_the_hub_and_comes_back(run: Path, tmp_path: Path) -> None:
    files = published(run, tmp_path / "copy")
    weights = bytearray(files["weights.safetensors"])
    weights[-1] ^= 1
    repositories: Repositories = {
        "shop/no-run": {"README.md": b"x", "model.bin": b"x"},
        "shop/changed": files | {"weights.safetensors": bytes(weights)},
        "shop/extra": files | {"model/other.json": b"{}"},
    }
    with hub_server(repositories) as address:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(run)],
            capture_output=True,
            text=True,
            env=os.environ
            | {
                "HF_HUB_OFFLINE": "0",
                "HF_ENDPOINT": address,
                "HF_HOME": str(tmp_path / "home"),
                "HF_TOKEN": "hf_x",
                "HF_HUB_DISABLE_TELEMETRY": "1",
            },
        )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told["address"].endswith("/shop/next-item")
    assert told["same"]
    assert told["by_path"]
    missing, no_run, changed, half, extra = told["errors"]
    assert missing.startswith("AssetError: cannot fetch hf://shop/other: ")
    assert "hf://shop/no-run is no run: it has no manifest.json" in no_run
    assert "ArtefactError" in changed
    assert "weights.safetensors was damaged or changed" in changed
    assert "write hf://org/name" in half
    assert "a file model/other.json that its manifest does not name" in extra
    pushed = repositories["shop/next-item"]
    assert {"README.md", "manifest.json", "weights.safetensors", "items.parquet"} <= pushed.keys()
    assert not any(name.startswith(("ranks", "checkpoints", "tensorboard")) for name in pushed)


def test_nothing_published_names_folders_or_users(run: Path, shop: Dataset, tmp_path: Path) -> None:
    files = published(run, tmp_path / "copy")
    private = [str(shop.path.parent).encode(), str(run.parent).encode()]
    for name, data in files.items():
        assert not any(path in data for path in private), name
    assert "ranks.parquet" not in files
    assert load_run(tmp_path / "copy").recommend([shop.item_ids[:2]])


def test_the_card_is_made_from_the_manifest(run: Path, tmp_path: Path) -> None:
    loaded = load_run(run)
    (tmp_path / "a").mkdir()
    write_published(loaded, tmp_path / "a", licence="apache-2.0")
    card = (tmp_path / "a/README.md").read_text()
    _, header, body = card.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "library_name": "seqloom",
        "tags": ["recommendation", "sequential-recommendation", "llmesr"],
        "license": "apache-2.0",
    }
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["statement"] in body
    assert f"| all | {metrics['users']} | {metrics['metrics']['hr@10']:.4f} |" in body
    for text in ("| users | 60 |", "| tail_item |", "## Limits", "`apache-2.0`", "seed: 42"):
        assert text in body, text
    # The text embedding is one of hashed words.
    assert "language model has learnt" not in body
    loaded.system.sizes = loaded.system.sizes.model_copy(update={"text_by_language_model": True})
    assert "language model has learnt" in model_card(loaded, loaded.manifest, [], licence=None)


def test_a_card_without_evaluation_or_licence_says_so(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for file in copy.glob("metrics*.json"):
        file.unlink()
    (tmp_path / "out").mkdir()
    write_published(load_run(copy), tmp_path / "out", licence=None)
    card = (tmp_path / "out/README.md").read_text()
    assert "was not evaluated" in card
    assert "states no licence" in card


def test_a_file_that_the_manifest_does_not_name_is_refused(run: Path, tmp_path: Path) -> None:
    published(run, tmp_path / "copy")
    check_published(tmp_path / "copy")
    (tmp_path / "copy/model").mkdir(exist_ok=True)
    (tmp_path / "copy/model/adapter.bin").write_bytes(b"x")
    with pytest.raises(ArtefactError, match=r"a file model/adapter\.bin"):
        check_published(tmp_path / "copy")


def test_offline_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(AssetError, match="cannot push to hf://a/b because HF_HUB_OFFLINE is set"):
        load_run(run).push_to_hub("a/b")
    with pytest.raises(AssetError, match="cannot fetch hf://a/b because HF_HUB_OFFLINE is set"):
        load_run("hf://a/b")


def test_addresses() -> None:
    assert parse_address("hf://a/b@v1.0") == ("a/b", "v1.0")
    assert parse_address(Path("hf://a/b")) == ("a/b", None)
    assert is_hub_address(Path("hf://a/b"))
    assert not is_hub_address("runs/a")
    with pytest.raises(AssetError, match="write hf://org/name"):
        parse_address("hf://a")
