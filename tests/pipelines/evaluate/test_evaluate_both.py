"""Evaluations with seen items masked and kept, by the decision of the run; groups of tied targets."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from seqloom.core.files import read_json, write_json
from seqloom.data.store import Dataset
from seqloom.evaluation.metrics import MISSED
from seqloom.evaluation.ranks_file import read_ranks
from seqloom.pipelines.audit import audit
from seqloom.pipelines.compare.compare import compare
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.evaluate.stored import read_metrics
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.prepare import prepare
from seqloom.pipelines.recommend.recommend import recommend
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.runs.manifest import read_manifest
from seqloom.serving.engine.answering import answer
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.engine.queries import Recommend
from support.datasets import small_config


def log(repeats: bool) -> pl.DataFrame:
    """40 users; of every fourth the last two events have one time. With repeats, each third item is one."""
    rows = []
    for user in range(40):
        items = [(user * 3 + step * step) % 23 for step in range(8)]
        if repeats:
            items[3], items[5], items[7] = items[0], items[2], items[5]
        times = [10 * step for step in range(8)]
        if user % 4 == 0:
            times[7] = times[6]
        rows += [(f"u{user}", f"i{i}", t) for i, t in zip(items, times, strict=True)]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


@pytest.fixture(scope="module", params=[False, True], ids=["fresh", "repeating"])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("both")
    return prepare(log(request.param), folder / "data", options=PrepareOptions(min_count=0))


@pytest.fixture(scope="module")
def runs(data: Dataset) -> list[Path]:
    folder = data.path.parent
    for name in ("popularity", "itemknn", "sasrec"):
        train(data, name, out=folder / name, config=small_config(name), device="cpu")
    return [folder / name for name in ("sasrec", "itemknn", "popularity")]


def test_the_run_takes_the_decision_of_the_data_set(data: Dataset, runs: list[Path]) -> None:
    repeating = data.repeats.share("train") > 0
    assert data.masks_seen != repeating
    for run in runs:
        assert read_manifest(run).mask_seen == data.masks_seen
        evaluation = evaluate(run)
        assert evaluation.details.masked == data.masks_seen
        assert evaluation.decision.startswith("kept" if repeating else "left out")
        # Early stopping and the manifest's figures are under the same decision.
        valid = evaluate(run, on="valid").metrics
        kept = read_manifest(run).valid
        assert kept == {name: pytest.approx(valid[name], abs=1e-6) for name in kept}


def test_one_pass_writes_what_two_would(data: Dataset, runs: list[Path], tmp_path: Path) -> None:
    for run in runs:
        copy = shutil.copytree(run, tmp_path / run.name)
        both = evaluate(copy, mask_seen=True)
        files = {file.name: file for file in copy.glob("ranks*.parquet")}
        assert {"ranks.parquet", "ranks-unmasked.parquet"} <= set(files)
        kept = {name: read_ranks(file).ranks.tolist() for name, file in files.items()}
        masked = evaluate(copy, mask_seen=True, both=False)
        unmasked = evaluate(copy, mask_seen=False, both=False)
        assert masked.other is None
        assert both.other is not None
        assert (both.metrics, both.groups) == (masked.metrics, masked.groups)
        assert both.other.metrics == unmasked.metrics
        again = {name: read_ranks(copy / name).ranks.tolist() for name in kept}
        assert again == kept
        assert (MISSED in kept["ranks.parquet"]) == bool(data.held_out("test").repeats.any())
        assert MISSED not in kept["ranks-unmasked.parquet"]


def test_each_file_names_the_other_result(runs: list[Path]) -> None:
    evaluation = evaluate(runs[0], mask_seen=False)
    other = read_metrics(runs[0] / "metrics.json", read_manifest(runs[0]))
    assert evaluation.other is not None
    assert other.other is not None
    assert (evaluation.other.masked, other.other.masked) == (True, False)
    assert other.other.metrics == evaluation.metrics
    assert evaluation.other.metrics == other.metrics


def test_sampled_ranking_has_one_result(runs: list[Path]) -> None:
    assert evaluate(runs[0], protocol="sampled", negatives=5).other is None


def test_tied_targets_stand_apart(data: Dataset, runs: list[Path]) -> None:
    tied = data.held_out("test").tied
    assert tied is not None
    found = evaluate(runs[1]).groups
    assert found["tied_target"]["users"] == int(tied.sum()) > 0
    assert found["untied_target"]["users"] == int((~tied).sum())
    ranks = read_ranks(runs[1] / ("ranks.parquet" if data.masks_seen else "ranks-unmasked.parquet"))
    hits = (ranks.ranks <= 10)[tied].double().mean()
    assert found["tied_target"]["metrics"]["hr@10"] == pytest.approx(float(hits))


def test_an_evaluation_and_a_run_of_an_older_version_load(runs: list[Path], tmp_path: Path) -> None:
    copy = shutil.copytree(runs[1], tmp_path / "run")
    evaluate(copy, mask_seen=True)
    raw = read_json(copy / "metrics.json", "evaluation")
    for name in ("other", "decision"):
        del raw[name]
    write_json(copy / "metrics.json", raw, sealed=True)
    manifest = read_json(copy / "manifest.json", "run")
    del manifest["mask_seen"]
    write_json(copy / "manifest.json", manifest, sealed=True)
    assert load_run(copy).manifest.mask_seen is True
    older = read_metrics(copy / "metrics.json", read_manifest(copy))
    assert (older.other, older.decision) == (None, "")


def test_lists_follow_the_run(data: Dataset, runs: list[Path]) -> None:
    history = [f"i{n}" for n in range(23)]
    users = [data.user_ids[0]]
    for run in runs:
        by_default = recommend(run, users=users, k=8)[0]
        asked = recommend(run, users=users, k=8, mask_seen=data.masks_seen)[0]
        assert by_default == asked
        served = ServedModel("m", run)
        query = Recommend(history=tuple(history), k=5)
        found: Any = answer(served, [query], {})[0]
        assert bool(found.items) != data.masks_seen  # all items are in the history
        for include in (True, False):
            other = Recommend(history=query.history, k=5, include_seen=include)
            found = answer(served, [other], {})[0]
            assert bool(found.items) == include


def test_compare_and_report_show_both(data: Dataset, runs: list[Path], tmp_path: Path) -> None:
    found = compare(runs, report=tmp_path / "report.html", item_map=0)
    assert found.protocol.masked == data.masks_seen
    rows = {(r.run, r.metric, r.group): r for r in found.protocols}
    for run in runs:
        masked, unmasked = (evaluate(run, mask_seen=m) for m in (True, False))
        row = rows[run.name, "ndcg@10", "all"]
        assert row.masked == pytest.approx(masked.metrics["ndcg@10"])
        assert row.unmasked == pytest.approx(unmasked.metrics["ndcg@10"])
    page = (tmp_path / "report.html").read_text()
    for words in (
        "Seen items masked and kept",
        "NDCG@10 masked",
        "Order of the events",
        "Tied times",
    ):
        assert words in page
    assert ("NDCG@10, repeat targets kept" in page) == bool(data.held_out("test").repeats.any())
    assert "seen items" in page


def test_runs_with_other_decisions_are_compared_with_seen_items_masked(
    data: Dataset, runs: list[Path], tmp_path: Path
) -> None:
    copy = shutil.copytree(runs[1], tmp_path / "other")
    manifest = read_json(copy / "manifest.json", "run")
    manifest["mask_seen"] = not data.masks_seen
    write_json(copy / "manifest.json", manifest, sealed=True)
    assert compare([runs[0], copy]).protocol.masked


def test_an_audit_checks_both_files(runs: list[Path]) -> None:
    evaluate(runs[1])
    report = audit(runs[1])
    assert report.passed
    names = [check.artefact for check in report.checks]
    assert "ranks, ranks.parquet" in names
    assert "ranks, ranks-unmasked.parquet" in names
