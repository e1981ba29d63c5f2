from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from seqloom.cli.main import run as command
from seqloom.core.cost import BatchShape, ComputeCost, Rates
from seqloom.core.device import memory_limit
from seqloom.core.errors import ConfigError
from seqloom.core.phase import Phase
from seqloom.data.store import Dataset
from seqloom.distributed.processes import ALONE
from seqloom.pipelines.estimate.costs import costs_of
from seqloom.pipelines.estimate.plan import plan
from seqloom.pipelines.estimate.trial import OutOfMemoryError, Trial, try_system
from seqloom.pipelines.estimate.workload import Workload
from seqloom.pipelines.train.fit_run import start_system
from seqloom.pipelines.train.train import sizes_of, train
from seqloom.runs.folder import load_run
from seqloom.systems.base import System, TrainingData
from seqloom.systems.registry import system_class
from support.datasets import looping_dataset, small_config, tiny_dataset
from support.step_counts import RATES, bytes_kept

SYSTEMS = ["sasrec", "gru4rec", "bert4rec", "bsarec", "llminit", "llmesr"]
SMALL: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 16,
    "encoder": {"hidden_size": 16, "max_len": 12},
}

PAPER = {"semantic": {"encoder": "shared"}, "distillation": {"alpha": 0.1}}
"""LLM-ESR with one ranking phase, whose costs can be counted."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return looping_dataset(tmp_path_factory.mktemp("data") / "tiny")


def built(dataset: Dataset, system: str, **keys: Any) -> tuple[System[Any], Phase, Workload]:
    """A system at its start, its ranking phase, and the work that is declared for it."""
    cls = system_class(system)
    config: Any = cls.config_class.build(SMALL | (PAPER if system == "llmesr" else {}) | keys)
    data = TrainingData(dataset)
    model = start_system(system, config, sizes_of(dataset, config), data)
    (phase,) = model.phases(data)
    return model, phase, Workload(dataset, model, costs_of(model), config)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_steps_are_those_of_the_training(dataset: Dataset, system: str) -> None:
    _, phase, work = built(dataset, system)
    steps = phase.steps(0)
    assert work.steps == len(steps)
    shapes = sorted(tuple(steps[at].inputs.items.shape) for at in range(len(steps)))
    assert sorted((shape.rows, shape.length) for shape in work.sample) == shapes
    targets = [
        sum(phase.steps(epoch)[at].num_targets for at in range(work.steps)) for epoch in range(30)
    ]
    assert work.targets == pytest.approx(sum(targets) / len(targets), rel=0.03)


def shape_of(work: Workload, batch: Any, system: str) -> BatchShape:
    """What is declared for a batch that was cut; its inputs lack the last item of a causal encoder."""
    last = int(system != "bert4rec")
    return work.costs.batch_shape(batch.inputs.lengths + last, batch.inputs.items.shape[1] + last)


@pytest.mark.usefixtures("products_by_torch")
@pytest.mark.parametrize(
    ("system", "loss"),
    [(system, "softmax") for system in SYSTEMS]
    + [("sasrec", "sampled-softmax"), ("sasrec", "gbce")],
)
def test_the_products_declared_are_those_that_a_step_does(
    dataset: Dataset, system: str, loss: str
) -> None:
    keys = {"encoder": {"hidden_size": 32, "max_len": 12}, "loss": {"kind": loss, "negatives": 8}}
    model, phase, work = built(dataset, system, **keys)
    model.train()
    steps = phase.steps(0)
    batch = max((steps[at] for at in range(len(steps))), key=lambda b: b.num_targets)
    with FlopCounterMode(display=False) as counter:
        ALONE.add_up(phase.loss(batch))["loss"].backward()
    shape: Any = shape_of(work, batch, system)
    declared: Any = work.costs.step_cost(shape)
    if loss == "softmax":
        masked = declared.products - 6 * shape.targets * dataset.num_items * model.vector_size
        exact = masked + 6 * batch.num_targets * dataset.num_items * model.vector_size
    else:
        exact = declared.products
    assert exact == pytest.approx(counter.get_total_flops(), rel=0.1)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_bytes_held_are_near_those_that_a_step_keeps(dataset: Dataset, system: str) -> None:
    model, phase, work = built(dataset, system, encoder={"hidden_size": 32, "max_len": 12})
    model.train()
    batch = phase.steps(0)[0]
    kept = bytes_kept(phase, batch)
    shape = shape_of(work, batch, system)
    held = work.costs.step_cost(shape).held
    assert 0.8 < held / kept < 2.5  # it also counts what a moment needs


@pytest.mark.parametrize("system", ["sasrec", "llmesr"])
def test_estimates_describe_the_run(dataset: Dataset, system: str, tmp_path: Path) -> None:
    config = SMALL | (PAPER if system == "llmesr" else {})
    reported = plan(dataset, system, config=config, device="cpu", rates=RATES)
    done = train(dataset, system, config=config, out=tmp_path / "run", device="cpu")
    assert reported.parameters == done.trained_parameters
    assert reported.targets_per_epoch == done.targets_per_epoch
    weights = (tmp_path / "run" / "weights.safetensors").stat().st_size / 2**20
    assert reported.disk.run_mb == pytest.approx(weights, abs=0.1)
    assert reported.set == []


def test_views_that_learn_apart_are_tried_for_a_few_steps(dataset: Dataset) -> None:
    told = plan(dataset, "llmesr", config=SMALL, device="cpu", rates=RATES)
    assert [phase.name for phase in told.phases] == ["text", "train", "blend"]


def test_time_is_what_the_rates_make_of_the_counts() -> None:
    cost = ComputeCost(products=2, elements=3, logits=5, moved=7, gathered=11, calls=13, held=17)
    assert Rates(1, 10, 100, 1000, 1e4, 1e5).seconds(cost) == 2 + 30 + 500 + 7000 + 11e4 + 13e5
    assert (cost + cost).held == (cost * 2).held == 34


def test_a_smaller_batch_is_chosen_for_less_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqloom.pipelines.estimate.footprint.rss_bytes", lambda: 2**28)
    wide = tiny_dataset(
        tmp_path / "wide", [[1 + (u + i) % 50 for i in range(40)] for u in range(400)]
    )
    config = {"encoder": {"hidden_size": 256, "max_len": 50}}
    whole = plan(wide, "sasrec", config=config, device="cpu", rates=RATES)
    assert whole.batch_size == 128
    tight = (whole.memory.peak_mb - 0.45 * whole.memory.step_mb) / 1024 / 0.95
    less = plan(wide, "sasrec", config=config, device="cpu", rates=RATES, memory_gib=tight)
    assert less.set == [f"batch_size={less.batch_size}"]
    assert less.batch_size < 128
    assert less.memory.peak_mb < whole.memory.peak_mb
    with pytest.raises(ConfigError, match=r"takes .* MiB .* batch_size .* takes"):
        plan(
            wide,
            "sasrec",
            config=config | {"batch_size": 128},
            device="cpu",
            rates=RATES,
            memory_gib=tight,
        )
    with pytest.raises(ConfigError, match="no batch_size is small enough"):
        plan(wide, "sasrec", config=config, device="cpu", rates=RATES, memory_gib=0.01)


def test_what_cannot_fit_on_the_disk_is_refused(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqloom.pipelines.estimate.plan._free_disk", lambda out: 1000)
    with pytest.raises(ConfigError, match="MiB of disk"):
        plan(dataset, "sasrec", config=SMALL, device="cpu", rates=RATES)


def test_a_catalogue_of_a_hundred_million_takes_no_memory_to_plan(dataset: Dataset) -> None:
    statistics = dataset.manifest.statistics | {"items": 100_000_000}
    manifest = dataset.manifest.model_copy(update={"statistics": statistics})
    huge = Dataset(dataset.path, manifest, dataset.events)
    with pytest.raises(ConfigError, match=r"takes .* MiB of memory"):
        plan(huge, "sasrec", config=SMALL, device="cpu", rates=RATES, memory_gib=16)


@pytest.mark.parametrize("system", ["popularity", "ensemble"])
def test_systems_that_train_nothing_are_refused(dataset: Dataset, system: str) -> None:
    config = {"runs": ["a", "b"]} if system == "ensemble" else {}
    with pytest.raises(ConfigError, match="trains nothing"):
        plan(dataset, system, config=config)


TRIED = {
    "melt": ["train", "users branch", "user blend", "items branch", "item blend", "joint"],
    "cities": ["train", "contexts", "item blend"],
    "idgenrec": ["tagging", "recommender-1", "generator-1", "recommender-2"],
}


@pytest.mark.parametrize("system", TRIED)
def test_a_system_that_declares_nothing_is_tried(
    dataset: Dataset, system: str, tmp_path: Path
) -> None:
    config = small_config(system)
    reported = plan(dataset, system, config=config, device="cpu", out=tmp_path)
    done = train(dataset, system, config=config, out=tmp_path / "run", device="cpu")
    log = load_run(tmp_path / "run").log
    assert reported.how == "tried"
    assert [phase.name for phase in reported.phases] == TRIED[system]
    assert {row["phase"] for row in log} == set(TRIED[system])
    assert reported.parameters == done.trained_parameters
    for phase in reported.phases:
        rows = [row for row in log if row["phase"] == phase.name]
        assert phase.targets_per_epoch == pytest.approx(rows[0]["targets"], rel=0.25)
        assert phase.most_epochs == len(rows)
        assert (phase.seconds_per_epoch > 0) == (not phase.name.endswith(" blend"))
    assert (reported.seconds_before > 0) == (system == "idgenrec")
    assert all(phase.validations for phase in reported.phases if phase.name.endswith(" blend"))
    assert reported.seconds_at_most > sum(each.seconds_per_epoch for each in reported.phases)
    stored = sum(f.stat().st_size for f in (tmp_path / "run").rglob("*.safetensors")) / 2**20
    assert reported.disk.run_mb == pytest.approx(stored, abs=0.2)
    weights = 4 * 4 * reported.parameters / 2**20
    assert reported.memory.weights_mb >= round(weights, 1)
    assert reported.memory.peak_mb > reported.memory.libraries_mb


def test_a_trial_that_does_not_fit_is_made_smaller_or_refused(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def tight(dataset: Any, cls: Any, config: Any, device: Any, free: Any) -> Trial:
        tried.append(config.batch_size)
        if config.batch_size > 16:
            raise OutOfMemoryError
        return try_system(dataset, cls, config, device, free)

    monkeypatch.setattr("seqloom.pipelines.estimate.plan.try_system", tight)
    config = {key: value for key, value in SMALL.items() if key != "batch_size"}
    reported = plan(dataset, "melt", config=config, device="cpu")
    assert tried == [128, 64, 32, 16]
    assert reported.set == ["batch_size=16"]
    with pytest.raises(ConfigError, match="batch_size 64; use a smaller model"):
        plan(dataset, "melt", config=config | {"batch_size": 64}, device="cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_step_that_needs_more_than_there_is_fails_instead_of_filling_the_machine() -> None:
    with pytest.raises((MemoryError, RuntimeError), match="allocate memory"), memory_limit(2**28):
        torch.ones(2**28)  # 1 GiB
    assert torch.ones(2**27).sum() == 2**27


def test_the_command_takes_the_keys_of_train(
    dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--set", "encoder.hidden_size=16", "--set", "batch_size=16", "--json"]
    assert command(["plan", str(dataset.path), "--system", "sasrec", *arguments]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert reported["batch_size"] == 16
    assert reported["seconds_per_epoch"] > 0
    assert reported["memory"]["peak_mb"] < reported["memory_free_mb"]
    assert command(["plan", str(dataset.path), "-s", "sasrec", "--set", "batchsize=16"]) == 2
    assert "did you mean 'batch_size'" in capsys.readouterr().err
