"""The plans in configs/ are what their commands take, and the ablations are all there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seqloom.core.config import read_config_file
from seqloom.pipelines.experiments.search_space import TunePlan, check_space
from seqloom.pipelines.experiments.sweep_grid import SweepPlan, cells
from seqloom.systems.llmesr.config import LLMESRConfig
from seqloom.systems.registry import system_class

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
NAMES = sorted(file.stem for file in CONFIGS.glob("*.yaml"))
SEARCHES = [name for name in NAMES if name.startswith("tune-")]
SWEEPS = [name for name in NAMES if name not in SEARCHES]


def test_both_kinds_of_plan_are_there() -> None:
    assert {"systems", "knowledge", "repeats"} <= set(SWEEPS)
    assert len(SEARCHES) >= 4


@pytest.mark.parametrize("name", SWEEPS)
def test_sweeps(name: str) -> None:
    assert cells(SweepPlan.build(read_config_file(CONFIGS / f"{name}.yaml")))


@pytest.mark.parametrize("name", SEARCHES)
def test_searches(name: str) -> None:
    check_space(TunePlan.build(read_config_file(CONFIGS / f"{name}.yaml")))


def test_every_variant_of_the_ablations_differs_from_its_base_in_one_key() -> None:
    plan = SweepPlan.build(read_config_file(CONFIGS / "llmesr-ablations.yaml"))
    values = {
        cell.variant: flat(LLMESRConfig.build(cell.config).model_dump()) for cell in cells(plan)
    }
    bases = [values[name] for name in ("full", "shared encoder", "shared, with self-distillation")]
    for name, config in values.items():
        changes = [sum(base[key] != config[key] for key in base) for base in bases]
        assert name == "full" or 1 in changes, (name, changes)
        assert name.startswith("shared") == (config["semantic.encoder"] == "shared")


def flat(values: dict, prefix: str = "") -> dict:
    """Nested keys as dotted ones."""
    actual: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            actual |= flat(value, f"{prefix}{key}.")
        else:
            actual[prefix + key] = value
    return actual


def test_the_table_has_every_encoder_with_every_system() -> None:
    plan = SweepPlan.build(read_config_file(CONFIGS / "longtail.yaml"))
    actual: dict[tuple[str, str], list[int]] = {}
    for cell in cells(plan):
        kind = cell.config.get("encoder", {}).get("kind", "sasrec")
        key = (cell.system, kind) if cell.system in ("llminit", "melt", "cities", "llmesr") else ()
        actual.setdefault(key or (cell.system, cell.system), []).append(cell.seed)
    assert len(actual) == 15
    assert {key for key, seeds in actual.items() if seeds == [42, 43, 44]} == {
        (system, kind) for kind in ("sasrec", "gru4rec", "bert4rec") for system in (kind, "llmesr")
    }


def test_the_papers_plan_has_each_encoder_under_llmesr() -> None:
    plan = SweepPlan.build(read_config_file(CONFIGS / "llmesr-paper.yaml"))
    actual = {
        cell.variant: LLMESRConfig.build(cell.config)
        for cell in cells(plan)
        if cell.system == "llmesr"
    }
    assert [config.encoder.kind for config in actual.values()] == ["sasrec", "gru4rec", "bert4rec"]
    assert all(config.distillation.teacher == "step" for config in actual.values())
    encoders: list[Any] = [config.encoder for config in actual.values()]
    sasrec, gru4rec, bert4rec = encoders
    assert all(config.scale_inputs for config in actual.values()), "a GRU ignores it"
    assert (gru4rec.train_on, gru4rec.dropout) == ("last", 0)
    assert (sasrec.dropout, bert4rec.dropout) == (0.5, 0.5)
    assert bert4rec.last_probability == 0.5
    for config in actual.values():
        assert config.loss.avoids_seen
        assert (config.loss.kind, config.loss.negatives) == ("bce", 1)
        assert (config.long_histories, config.encoder.max_len) == ("last", 200)


def test_the_papers_plan_trains_the_encoders_as_it_trains_them_under_llmesr() -> None:
    plan = SweepPlan.build(read_config_file(CONFIGS / "llmesr-paper.yaml"))
    actual = {cell.variant: cell for cell in cells(plan) if cell.seed == 42}
    for kind in ("SASRec", "GRU4Rec", "BERT4Rec"):
        alone, under = actual[kind], actual[f"LLM-ESR {kind}"]
        plain: Any = system_class(alone.system).config_class.build(alone.config)
        whole: Any = LLMESRConfig.build(under.config)
        assert plain.encoder.model_dump() == whole.encoder.model_dump()
        assert plain.loss.model_dump() == whole.loss.model_dump()
        assert plain.scale_inputs == whole.scale_inputs
        assert plain.patience == whole.patience == 20
