"""Comparisons of trained runs: over users and seeds, with costs, and the report."""

from __future__ import annotations

import csv
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from seqloom.core.errors import ConfigError
from seqloom.core.files import read_json, write_json
from seqloom.data.store import Dataset
from seqloom.pipelines.audit import audit
from seqloom.pipelines.audit.stored import read_audit
from seqloom.pipelines.compare.compare import compare
from seqloom.pipelines.compare.latency import measure_latency
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from support.datasets import small_config


@pytest.fixture(scope="module")
def runs(shop: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two systems with two seeds each."""
    folder = tmp_path_factory.mktemp("runs")
    paths = []
    for system in ("sasrec", "llmesr"):
        for seed in (1, 2):
            paths.append(folder / f"{system}-{seed}")
            config = {**small_config(system), "seed": seed}
            train(shop, system, out=paths[-1], config=config, device="cpu")
            evaluate(paths[-1])
    return paths


def test_seeds_form_series_and_costs_are_stated(runs: list[Path], tmp_path: Path) -> None:
    comparison = compare(runs, report=tmp_path / "report.html", item_map=0)
    assert [(e.reference, e.run, e.run_seeds) for e in comparison.over_seeds] == [
        ("sasrec", "llmesr", [1, 2])
    ] * 2
    assert [(pair.run, pair.pays is not None) for pair in comparison.pairs] == [
        ("sasrec-2", False),
        ("llmesr-1", True),
        ("llmesr-2", True),
    ]
    sentence = comparison.pairs[1].pays
    assert sentence is not None
    assert "embedding the texts included" in sentence
    assert "ms a request" in sentence
    page = unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    for shown in (
        "Over seeds",
        "One request (ms)",
        "Embedding texts",
        comparison.over_seeds[0].sentence,
    ):
        assert shown in page
    with (tmp_path / "report_figures" / "tradeoff.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == [path.name for path in runs]
    assert all(0 < float(row["coverage@10"]) <= 1 for row in rows)


def test_another_configuration_is_another_series(
    runs: list[Path], shop: Dataset, tmp_path: Path
) -> None:
    config = {**small_config("sasrec"), "seed": 3, "learning_rate": 0.01}
    train(shop, "sasrec", out=tmp_path / "other", config=config, device="cpu")
    comparison = compare([runs[0], runs[1], tmp_path / "other"])
    assert [(e.reference, e.run, e.run_seeds) for e in comparison.over_seeds] == [
        ("sasrec-1", "other", [3])
    ] * 2


def test_stored_ranks_are_compared_without_the_data_set(runs: list[Path], tmp_path: Path) -> None:
    copies = [shutil.copytree(path, tmp_path / path.name) for path in runs[::2]]
    for path in copies:
        file = path / "manifest.json"
        manifest = read_json(file, "run")
        manifest["dataset"]["path"] = "/nowhere"
        write_json(file, manifest, sealed=True)
    (pair,) = compare(copies).pairs
    assert pair.pays is not None
    assert "latency" not in pair.pays
    assert "the training" in pair.pays


def test_one_request_is_timed(runs: list[Path], shop: Dataset) -> None:
    latency = measure_latency(load_run(runs[0]), shop.held_out("test").histories)
    assert latency.requests >= 5
    assert 0 < latency.median_ms <= latency.p95_ms


def test_the_report_shows_audits_and_runs_missing_ones(runs: list[Path], tmp_path: Path) -> None:
    copies = [shutil.copytree(run, tmp_path / run.name) for run in (runs[0], runs[2])]
    audit(copies[0])
    kept = (copies[0] / "audit.json").read_bytes()
    page = report_page(copies, tmp_path)
    assert "not audited" in page  # the second run
    page = report_page(copies, tmp_path, audit_runs=True)
    assert "not audited" not in page
    assert "frozen tensors" in page
    assert (copies[0] / "audit.json").read_bytes() == kept  # it was still valid
    stored = read_audit(copies[1])
    assert stored is not None
    assert (stored.audit.passed, stored.changed) == (True, [])
    evaluate(copies[1], tail_item_below=99)
    stored = read_audit(copies[1])
    assert stored is not None
    assert stored.changed == ["ranks-unmasked.parquet", "ranks.parquet"]
    assert "out of date: ranks-unmasked.parquet, ranks.parquet changed since" in report_page(
        copies, tmp_path
    )
    with pytest.raises(ConfigError, match="give --report"):
        compare(copies, audit_runs=True)


def report_page(runs: list[Path], folder: Path, **options: Any) -> str:
    compare(runs, report=folder / "report.html", item_map=0, **options)
    return (folder / "report.html").read_text(encoding="utf-8")
