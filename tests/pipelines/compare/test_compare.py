"""Comparisons of trained runs: over users and seeds, with costs, and the report."""

from __future__ import annotations

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
from seqloom.pipelines.compare.setup import describe_setup
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from support.datasets import prepared_dataset, say_a_language_model_made, small_config


@pytest.fixture(scope="module")
def shop(shop: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The shop, with an embedding that counts as one by a language model."""
    own = Dataset.load(shutil.copytree(shop.path, tmp_path_factory.mktemp("shop") / "data"))
    say_a_language_model_made(own)
    return own


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
        "One request",
        "Embed texts",
        "What pays",
        comparison.over_seeds[0].sentence,
        comparison.verdict.headline,
    ):
        assert shown in page
    assert "One seed" not in page


def test_runs_have_names_and_the_order_does_not_matter(runs: list[Path]) -> None:
    named = {"ours": runs[2], "plain": runs[0], "other": runs[1]}
    first = compare(named, at=(1, 5, 7))
    again = compare(dict(reversed(named.items())), at=(1, 5))
    assert first.reference == again.reference
    assert first.reference in ("plain", "other")
    assert first.verdict.run == again.verdict.run == "ours"
    assert {d.metric for d in again.pairs[0].differences} == {"hr@1", "ndcg@5", "hr@5"}
    assert again.metric == "hr@1"
    gaps = [c.difference("ours", "ndcg@5") for c in (first, again)]
    assert gaps[0] is not None
    assert gaps[1] is not None
    assert gaps[0].relative == gaps[1].relative


def test_the_setup_of_a_run_is_described(runs: list[Path]) -> None:
    setup = describe_setup(load_run(runs[0]))
    assert setup.settings["encoder.hidden_size"] == str(
        small_config("sasrec")["encoder"]["hidden_size"]
    )
    assert (setup.text_kind, setup.encoder) == ("ids", "")
    assert setup.device.startswith("cpu")
    assert setup.epochs
    assert "dimensions" in describe_setup(load_run(runs[2])).encoder


def test_further_cutoffs_reach_report_and_both_protocols(runs: list[Path], tmp_path: Path) -> None:
    comparison = compare(runs[::2], at=7, report=tmp_path / "r.html", item_map=0)
    assert comparison.metric == "ndcg@7"
    rows = [row for row in comparison.protocols if row.metric == "ndcg@7"]
    assert rows
    assert all(row.masked is not None and row.unmasked is not None for row in rows)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "NDCG@7 masked" in page
    assert "among its first 7" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": 0}, "0 is no cut-off"),
        ({"at": ()}, "is empty"),
        ({"at": (5, 5)}, "given twice"),
        ({"at": 100_000}, "more than the catalogue has items"),
        ({"price_per_hour": 1.0}, "price_per_hour is about the report"),
        ({"price_per_hour": -1.0, "report": "x.html"}, "below 0"),
    ],
)
def test_bad_options_are_refused(runs: list[Path], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(runs[::2], **options)


def test_equal_names_and_single_runs_are_refused(runs: list[Path], tmp_path: Path) -> None:
    copy = shutil.copytree(runs[0], tmp_path / runs[0].name)
    with pytest.raises(ConfigError, match=r"two runs are called 'sasrec-1'.* mapping from name"):
        compare([runs[0], copy])
    with pytest.raises(ConfigError, match="at least two runs; got 1"):
        compare([runs[0]])
    with pytest.raises(ConfigError, match="empty name"):
        compare({"": runs[0], "b": copy})


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
    with pytest.raises(ConfigError, match="audit_runs is about the report"):
        compare(copies, audit_runs=True)


def report_page(runs: list[Path], folder: Path, **options: Any) -> str:
    compare(runs, report=folder / "report.html", item_map=0, **options)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_words_are_no_language_model(tmp_path: Path) -> None:
    data = prepared_dataset(tmp_path / "data")  # with hashed words
    for system in ("sasrec", "textknn"):
        train(data, system, out=tmp_path / system, config=small_config(system), device="cpu")
    found = compare([tmp_path / "sasrec", tmp_path / "textknn"])
    assert found.verdict.outcome is None
    assert "language model" not in found.verdict.headline
    say_a_language_model_made(data)
    train(data, "textknn", out=tmp_path / "by-model", device="cpu")
    runs = [tmp_path / name for name in ("sasrec", "by-model")]
    assert compare(runs).verdict.outcome is not None
    runs.append(tmp_path / "textknn")
    assert compare(runs).reference in ("sasrec", "textknn")
