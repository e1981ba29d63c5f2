"""`@VARIANT` in a plan is the run folder of an earlier variant, of the same seed and grid point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seqloom.core.errors import ConfigError
from seqloom.data.store import Dataset
from seqloom.pipelines.experiments.sweep import sweep
from seqloom.pipelines.experiments.sweep_grid import SweepPlan, cells
from seqloom.pipelines.experiments.sweep_references import resolve_references
from seqloom.runs.manifest import read_manifest
from support.datasets import SMALL

RUNS = Path("out/runs")


def referred(**plan: Any) -> dict[str, Any]:
    actual = resolve_references(cells(SweepPlan.build(plan)), RUNS)
    return {cell.name: cell.config.get("runs") for cell in actual}


def test_a_reference_is_the_run_of_the_same_seed_and_of_the_only_one() -> None:
    actual = referred(
        variants={
            "A": {"system": "popularity", "seeds": [1]},
            "B": {"system": "sasrec"},
            "both": {"system": "ensemble", "config": {"runs": ["@A", "@B", "elsewhere"]}},
        },
        seeds=[1, 2],
    )
    assert actual["both,seed=1"] == [str(RUNS / "A,seed=1"), str(RUNS / "B,seed=1"), "elsewhere"]
    assert actual["both,seed=2"] == [str(RUNS / "A,seed=1"), str(RUNS / "B,seed=2"), "elsewhere"]


def test_a_reference_is_the_run_of_the_same_grid_point() -> None:
    actual = resolve_references(
        cells(
            SweepPlan.build(
                {
                    "variants": {
                        "A": {"system": "sasrec"},
                        "B": {"system": "e4srec", "config": {"ids.run": "@A"}},
                    },
                    "grid": {"epochs": [1, 2]},
                }
            )
        ),
        RUNS,
    )
    assert {cell.name: cell.config["ids"]["run"] for cell in actual if cell.variant == "B"} == {
        "B,epochs=1,seed=42": str(RUNS / "A,epochs=1,seed=42"),
        "B,epochs=2,seed=42": str(RUNS / "A,epochs=2,seed=42"),
    }


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (
            {
                "both": {"system": "ensemble", "config": {"runs": ["@A", "@A"]}},
                "A": {"system": "popularity"},
            },
            "@A must be a variant that comes earlier in the plan; earlier ones: none",
        ),
        (
            {
                "A": {"system": "popularity", "seeds": [1, 2]},
                "both": {"system": "ensemble", "config": {"runs": ["@A", "@A"]}, "seeds": [3]},
            },
            "run both,seed=3: @A has no run of the same seed",
        ),
    ],
)
def test_a_reference_to_nothing_is_refused(variants: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        referred(variants=variants)


def test_a_sweep_trains_an_ensemble_of_its_own_runs(shop: Dataset, tmp_path: Path) -> None:
    done = sweep(
        shop,
        {
            "variants": {
                "SASRec": {"system": "sasrec", "config": SMALL},
                "ItemKNN": {"system": "itemknn"},
                "Both": {"system": "ensemble", "config": {"runs": ["@SASRec", "@ItemKNN"]}},
            }
        },
        out=tmp_path / "out",
        device="cpu",
    )
    assert done.runs == 3
    members = read_manifest(tmp_path / "out/runs/Both,seed=42").members
    assert [one.system for one in members] == ["sasrec", "itemknn"]
