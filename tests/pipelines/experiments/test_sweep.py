"""A sweep trains what its plan says, once, and its table is the mean of its runs."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path
from typing import Any

import pytest

import seqloom.pipelines.experiments.sweep as stage
from seqloom.cli.main import run as command
from seqloom.core.config import read_config_file
from seqloom.core.errors import ArtefactError, ConfigError, TrainingError
from seqloom.core.files import read_json
from seqloom.data.store import Dataset
from seqloom.pipelines.experiments.sweep import SweepSummary, sweep
from seqloom.pipelines.experiments.sweep_grid import (
    SweepPlan,
    cells,
    folder_name,
    nested,
    only_variants,
)
from seqloom.pipelines.train.train import TrainSummary
from seqloom.runs.manifest import read_manifest
from support.datasets import SMALL

PLAN = {
    "config": SMALL,
    "variants": {
        "LLM-ESR": {"system": "llmesr"},
        "SASRec": {"system": "sasrec", "grid": False},
    },
    "grid": {"distillation.alpha": [0.01, 0.5]},
    "seeds": [1, 2],
    "protocols": ["full", "sampled"],
}


def plan(**changes: Any) -> SweepPlan:
    return SweepPlan.build(PLAN | changes)


@pytest.fixture(scope="module")
def swept(shop: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SweepSummary]:
    out = tmp_path_factory.mktemp("sweep") / "out"
    return out, sweep(shop, plan(), out=out, device="cpu")


def test_a_plan_is_variants_times_grid_times_seeds() -> None:
    actual = cells(plan())
    assert [cell.name for cell in actual] == [
        "LLM-ESR,distillation.alpha=0.01,seed=1",
        "LLM-ESR,distillation.alpha=0.01,seed=2",
        "LLM-ESR,distillation.alpha=0.5,seed=1",
        "LLM-ESR,distillation.alpha=0.5,seed=2",
        "SASRec,seed=1",
        "SASRec,seed=2",
    ]
    first = actual[0].config
    assert first["distillation"] == {"alpha": 0.01}
    assert first["encoder"] == SMALL["encoder"]
    assert first["seed"] == 1


def test_a_plan_of_one_system_needs_no_variant() -> None:
    one = SweepPlan.build({"system": "sasrec", "grid": {"epochs": [1, 2]}})
    assert [(cell.variant, cell.point) for cell in cells(one)] == [
        ("sasrec", {"epochs": 1}),
        ("sasrec", {"epochs": 2}),
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"grid": {"epochs": [1]}}, "name a system"),
        ({"system": "sasrec", "grid": {"epochs": []}}, "'epochs' has no values"),
        ({"system": "sasrec", "grid": {"epoch": [1]}}, r"(?s)run sasrec.*did you mean 'epochs'"),
        ({"system": "sasrec", "grid": {"seed": [1]}}, "under `seeds`"),
        ({"system": "sasrek"}, "sasrek"),
        ({"system": "sasrec", "seeds": [1, 1]}, "two runs have the same name"),
    ],
)
def test_a_faulty_plan_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cells(SweepPlan.build(values))


def test_a_part_of_a_plan_is_the_variants_that_are_named() -> None:
    part = only_variants(plan(), ["SASRec"])
    assert [cell.name for cell in cells(part)] == ["SASRec,seed=1", "SASRec,seed=2"]
    with pytest.raises(
        ConfigError, match=r"no variant 'sasrec'; its variants: 'LLM-ESR', 'SASRec'"
    ):
        only_variants(plan(), ["sasrec"])


def test_the_command_takes_keys_of_the_plan_and_some_of_its_variants(
    shop: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "plan.yaml").write_text(plan(protocols=["full"]).to_yaml(), encoding="utf-8")
    arguments = ["--plan", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "out"), "--quiet"]
    part = ["--only", "SASRec", "--set", "seeds=[3]", "--set", "config.encoder.dropout=0.1"]
    assert command(["sweep", str(shop.path), *arguments, *part, "--device", "cpu"]) == 0
    (run,) = (tmp_path / "out" / "runs").iterdir()
    assert run.name == "SASRec,seed=3"
    assert read_config_file(run / "config.yaml")["encoder"]["dropout"] == 0.1
    assert command(["sweep", str(shop.path), *arguments, "--only", "MELT"]) == 2


def test_later_layers_win_and_dotted_keys_open_sections() -> None:
    assert nested({"a": {"b": 1, "c": 2}}, {"a.b": 3}, {"d.e.f": 4}) == {
        "a": {"b": 3, "c": 2},
        "d": {"e": {"f": 4}},
    }
    with pytest.raises(ConfigError, match="'a' is a value"):
        nested({"a": 1}, {"a.b": 2})


def test_layers_are_not_changed() -> None:
    below = {"encoder": {"hidden_size": 8}}
    nested(below, {"encoder.hidden_size": 16})
    assert below == {"encoder": {"hidden_size": 8}}


def test_folder_names_are_safe_and_short() -> None:
    assert folder_name("w/o x", {"k": "a b"}, 1) == "w-o-x,k=a-b,seed=1"
    long = [folder_name("v", {"key": "x" * 300 + end}, 1) for end in "ab"]
    assert max(map(len, long)) < 140
    assert long[0] != long[1]


def test_the_table_is_the_mean_of_the_runs(swept: tuple[Path, SweepSummary]) -> None:
    out, summary = swept
    assert summary.runs == 6
    assert summary.failed == []
    row = next(
        row
        for row in summary.table
        if (row.variant, row.point.get("distillation.alpha"), row.protocol, row.group, row.metric)
        == ("LLM-ESR", 0.5, "full", "all", "ndcg@10")
    )
    values = [
        read_json(
            out / f"runs/LLM-ESR,distillation.alpha=0.5,seed={seed}/metrics-unmasked.json", "x"
        )["metrics"]["ndcg@10"]  # seen items are kept
        for seed in (1, 2)
    ]
    assert row.seeds == [1, 2]
    assert row.mean == pytest.approx(statistics.fmean(values))
    assert row.std == pytest.approx(statistics.stdev(values))
    assert row.best == max(values)
    # 3 settings, 2 protocols, 7 groups (two are of repeated and new targets), 2 metrics
    assert len(summary.table) == 84


def test_it_writes_tables_figures_and_report(swept: tuple[Path, SweepSummary]) -> None:
    out, summary = swept
    assert read_json(out / "summary.json", "summary")["runs"] == 6
    with (out / "runs.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 168
    with (out / "summary.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 84
    page = Path(summary.report).read_text(encoding="utf-8")
    assert "Sampled ranking" in page
    for name in ("ablation", "sensitivity_distillation_alpha"):
        assert (out / "report_figures" / f"{name}.svg").exists()
        assert (out / "report_figures" / f"{name}.csv").exists()
    assert SweepPlan.build(read_config_file(out / "plan.yaml")) == plan()


def test_a_second_sweep_trains_only_what_is_new(
    swept: tuple[Path, SweepSummary], shop: Dataset
) -> None:
    out, first = swept
    before = {
        folder.name: (folder / "weights.safetensors").stat().st_mtime_ns
        for folder in (out / "runs").iterdir()
    }
    again = sweep(shop, plan(grid={"distillation.alpha": [0.5, 2.0]}), out=out, device="cpu")
    assert again.runs == 6
    after = {
        folder.name: (folder / "weights.safetensors").stat().st_mtime_ns
        for folder in (out / "runs").iterdir()
    }
    assert len(after) == 8
    assert before == {name: after[name] for name in before}
    same = [row for row in again.table if row.point.get("distillation.alpha") == 0.5]
    assert same == [row for row in first.table if row.point.get("distillation.alpha") == 0.5]


def test_other_thresholds_make_other_groups(
    swept: tuple[Path, SweepSummary], shop: Dataset
) -> None:
    out, first = swept
    fixed = sweep(shop, plan(tail_item_below=100), out=out, device="cpu")
    users = {row.group: row.users for row in fixed.table}
    assert "head_item" not in users
    assert users["tail_item"] == users["all"]
    assert sweep(shop, plan(), out=out, device="cpu").table == first.table


def test_a_run_of_another_configuration_is_not_taken(
    swept: tuple[Path, SweepSummary], shop: Dataset
) -> None:
    out, _ = swept
    with pytest.raises(ArtefactError, match="another configuration"):
        sweep(shop, plan(config=SMALL | {"epochs": 2}), out=out, device="cpu")


def test_a_run_that_diverges_is_reported_and_the_others_continue(
    shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(dataset: Any, system: Any, *, config: Any, **rest: Any) -> TrainSummary:
        if config["seed"] == 1:
            raise TrainingError("loss is nan at step 3")
        return trained(dataset, system, config=config, **rest)

    trained = stage.train
    monkeypatch.setattr(stage, "train", train)
    actual = sweep(
        shop, plan(variants={}, system="sasrec", grid={}), out=tmp_path / "o", device="cpu"
    )
    assert actual.failed == [{"run": "sasrec,seed=1", "error": "loss is nan at step 3"}]
    assert {tuple(row.seeds) for row in actual.table} == {(2,)}
    assert "loss is nan" in Path(actual.report).read_text(encoding="utf-8")
    assert read_manifest(tmp_path / "o" / "runs" / "sasrec,seed=2").status == "complete"


def test_a_metric_that_cannot_be_averaged_is_refused(shop: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"coverage@10 cannot.*hr@5"):
        sweep(shop, plan(metrics=["coverage@10"]), out=tmp_path / "o")
    assert not (tmp_path / "o").exists()
