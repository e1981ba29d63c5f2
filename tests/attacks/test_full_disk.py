"""A disk that is full at any size of file: an error that says so, and nothing that looks complete."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from seqloom.cli.main import run as command
from seqloom.core.errors import StorageError
from seqloom.core.files import read_json
from seqloom.data.store import Dataset
from seqloom.pipelines.compare.compare import compare
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.prepare import prepare
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.runs.manifest import read_manifest
from seqloom.text.store import load_embeddings
from support.datasets import SMALL, prepared_dataset

LIMITS = (0, 200, 1000, 3000, 10_000, 40_000, 1 << 30)
"""Bytes that a file may have."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepared_dataset(tmp_path_factory.mktemp("data") / "data")


def full_at(limit: int, act: Callable[..., Any]) -> str:
    """Run `act` while no file may have more than `limit` bytes: its error, empty where there is none.

    A write beyond the limit fails as one to a full disk does, in a process that ignores SIGXFSZ, as Python
    does. No child process: a fork of a process with threads may hang.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        act()
    except StorageError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    return ""


def check_error(reported: str, limit: int) -> None:
    if not reported:
        return
    assert "could not be written: File too large" in reported, (limit, reported)
    assert "MiB are free" in reported
    assert "--resume" in reported


def unfinished(folder: Path) -> list[Any]:
    return [file.name for file in folder.rglob(".*") if file.suffix in (".part", ".old")]


def test_prepare_and_embed(tmp_path: Path) -> None:
    rows = [(f"u{u}", f"i{(u + t * t) % 20}", t) for u in range(40) for t in range(6)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    made = []
    for limit in LIMITS:
        out = tmp_path / str(limit)
        reported = full_at(
            limit, lambda to=out: prepare(log, to, options=PrepareOptions(min_count=1))
        )
        check_error(reported, limit)
        assert out.exists() == (not reported)
        assert unfinished(tmp_path) == []
        made.append(out.exists())
    assert made[0] is False
    assert made[-1] is True
    data = prepared_dataset(tmp_path / "data")
    options = EmbedOptions(encoder="hash:64", name="second", users="mean")
    for limit in LIMITS:
        reported = full_at(limit, lambda: embed(data, options, overwrite=True))
        check_error(reported, limit)
        assert (data.path / "text" / "second").exists() == (not reported)
        assert unfinished(data.path) == []
        if not reported:
            assert load_embeddings(Dataset.load(data.path), "second").width == 64
            break
    else:
        pytest.fail("no limit was enough")


def test_a_training_resumes_where_the_disk_was_full(data: Dataset, tmp_path: Path) -> None:
    config = {**SMALL, "epochs": 2}
    train(data, "sasrec", out=tmp_path / "whole", config=config, device="cpu")
    expected = read_manifest(tmp_path / "whole").weights_sha256
    met = 0
    for limit in LIMITS:
        out = tmp_path / str(limit)
        reported = full_at(
            limit, lambda to=out: train(data, "sasrec", out=to, config=config, device="cpu")
        )
        check_error(reported, limit)
        assert unfinished(tmp_path) == []
        if reported:
            met += 1
            assert not out.exists() or read_manifest(out).status == "training"
        train(data, "sasrec", out=out, config=config, device="cpu", resume=True)
        assert load_run(out).manifest.weights_sha256 == expected
    assert met >= 3


def test_evaluate_and_compare_leave_what_was_there(data: Dataset, tmp_path: Path) -> None:
    for name in ("one", "two"):
        train(data, "popularity", out=tmp_path / name, device="cpu")
    runs = [tmp_path / "one", tmp_path / "two"]
    reported = full_at(1000, lambda: evaluate(runs[0], device="cpu"))
    assert reported
    check_error(reported, 1000)
    assert not (runs[0] / "metrics.json").exists()
    report = tmp_path / "report.html"
    reported = full_at(1000, lambda: compare(runs, report=report))
    assert reported
    check_error(reported, 1000)
    assert not report.exists()
    for run in runs:
        evaluate(run, device="cpu")
    reported = full_at(1000, lambda: compare(runs, report=report))
    assert reported
    check_error(reported, 1000)
    assert not report.exists()
    assert unfinished(tmp_path) == []
    compare(runs, report=report)
    assert report.exists()


def test_the_command_reports_it_without_a_traceback(data: Dataset, tmp_path: Path) -> None:
    limited = (
        "import resource, sys; from seqloom.cli.main import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400)); main()"
    )
    out = str(tmp_path / "run")
    arguments = ["train", str(data.path), "--system", "popularity", "--out", out, "--json"]
    done = subprocess.run(
        [sys.executable, "-B", "-c", limited, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    error = json.loads(done.stdout)["error"]
    assert error["type"] == "StorageError"
    check_error(error["message"], 400)
    assert command(arguments) == 0
    assert read_json(tmp_path / "run" / "manifest.json", "run")["status"] == "complete"
