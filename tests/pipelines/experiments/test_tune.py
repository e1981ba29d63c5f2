"""A search resumes, prunes, reads validation alone, and leaves a configuration to train with."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

import seqloom.pipelines.experiments.tune as stage
from seqloom.core.config import read_config_file
from seqloom.core.errors import ArtefactError, ConfigError, StorageError, TrainingError
from seqloom.data.store import Dataset, HeldOut
from seqloom.pipelines.experiments.search_space import Space, TunePlan
from seqloom.pipelines.experiments.tune import tune
from seqloom.pipelines.train.train import TrainSummary
from seqloom.systems.registry import config_class
from support.datasets import SMALL

PLAN = {
    "system": "sasrec",
    "config": SMALL | {"epochs": 2},
    "space": {
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "encoder.num_layers": {"low": 1, "high": 2},
        "loss.kind": {"values": ["softmax", "bce"]},
    },
    "trials": 3,
    "prune": False,
}


def plan(**changes: Any) -> TunePlan:
    return TunePlan.build(PLAN | changes)


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "trials.csv").open() as file:
        return list(csv.DictReader(file))


class KilledError(Exception):
    pass


def test_it_finds_the_best_and_more_trials_go_on(shop: Dataset, tmp_path: Path) -> None:
    actual: Any = tune(shop, plan(), out=tmp_path, device="cpu")
    assert (actual.trials, actual.complete, actual.pruned) == (3, 3, 0)
    values = [float(row["ndcg@10"]) for row in rows(tmp_path)]
    assert actual.best_value == max(values)
    assert actual.best_trial == values.index(max(values))
    best: Any = config_class("sasrec").build(read_config_file(Path(str(actual.config))))
    assert best.learning_rate == actual.best["learning_rate"]
    assert best.epochs == 2

    more = tune(shop, plan(trials=4), out=tmp_path, device="cpu")
    assert more.trials == 4
    assert [row["run"] for row in rows(tmp_path)[:3]] == ["trial-000", "trial-001", "trial-002"]
    assert [float(row["ndcg@10"]) for row in rows(tmp_path)[:3]] == values


def test_the_test_part_is_never_read(
    shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested = []
    held_out = Dataset.held_out

    def watched(self: Any, part: Any) -> HeldOut:
        requested.append(part)
        return held_out(self, part)

    monkeypatch.setattr(Dataset, "held_out", watched)
    tune(shop, plan(trials=1), out=tmp_path, device="cpu")
    assert set(requested) == {"valid"}


def test_a_killed_search_resumes_with_the_trial_it_was_in(
    shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(shop, plan(trials=2), out=tmp_path / "whole", device="cpu")
    train = stage.train

    def killed(dataset: Any, system: Any, *, out: Any, watch: Any, **rest: Any) -> TrainSummary:
        def dying(count: Any, metrics: Any) -> None:
            watch(count, metrics)
            if out.name == "trial-001" and count == 2:
                raise KilledError

        return train(dataset, system, out=out, watch=dying, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "train", killed)
        with pytest.raises(KilledError):
            tune(shop, plan(trials=2), out=tmp_path / "cut", device="cpu")
    validated = []

    def counting(dataset: Any, system: Any, *, watch: Any, **rest: Any) -> TrainSummary:
        def count_them(count: Any, metrics: Any) -> None:
            validated.append(count)
            watch(count, metrics)

        return train(dataset, system, watch=count_them, **rest)

    monkeypatch.setattr(stage, "train", counting)
    actual = tune(shop, plan(trials=2), out=tmp_path / "cut", device="cpu")
    assert validated == [2], "the first epoch is not trained again"
    assert actual.trials == 2
    whole, cut = rows(tmp_path / "whole"), rows(tmp_path / "cut")
    for one, other in zip(whole, cut, strict=True):
        assert {**one, "trial": ""} == {**other, "trial": ""}


def test_a_trial_that_is_behind_is_stopped_and_its_run_removed(
    shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(
        dataset: Any, system: Any, *, out: Any, watch: Callable[..., Any], **rest: Any
    ) -> Any:
        number = int(out.name[-1])
        out.mkdir(parents=True)
        for count in (1, 2, 3):
            watch(count, {"ndcg@10": 0.5 - 0.1 * number, "hr@10": 0.0})
        return type("Summary", (), {"valid": {"ndcg@10": 0.5 - 0.1 * number}})()

    monkeypatch.setattr(stage, "train", train)
    pruned = plan(prune=True, startup_trials=2, warmup_validations=2)
    actual = tune(shop, pruned, out=tmp_path, device="cpu")
    assert (actual.complete, actual.pruned) == (2, 1)
    assert rows(tmp_path)[2]["state"] == "pruned"
    assert rows(tmp_path)[2]["validations"] == "2"
    assert not (tmp_path / "runs" / "trial-002").exists()
    assert (tmp_path / "runs" / "trial-001").exists()


def test_a_loss_that_is_not_finite_fails_the_trial_alone(
    shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(dataset: Any, system: Any, *, out: Any, **rest: Any) -> Any:
        if out.name == "trial-000":
            raise TrainingError("the loss is nan")
        return type("Summary", (), {"valid": {"ndcg@10": 0.25}})()

    monkeypatch.setattr(stage, "train", train)
    actual = tune(shop, plan(trials=2), out=tmp_path, device="cpu")
    assert (actual.complete, actual.failed, actual.best_trial) == (1, 1, 1)


def test_a_full_disk_is_a_storage_error(shop: Dataset, tmp_path: Path) -> None:
    def limit(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA max_page_count = 4")

    event.listen(Engine, "connect", limit)
    try:
        with pytest.raises(StorageError, match=r"study\.db could not be written: No space left"):
            tune(shop, plan(trials=1), out=tmp_path, device="cpu")
    finally:
        event.remove(Engine, "connect", limit)
    assert tune(shop, plan(trials=1), out=tmp_path, device="cpu").trials == 1


def test_another_plan_or_data_set_is_refused(shop: Dataset, tmp_path: Path) -> None:
    tune(shop, plan(trials=1), out=tmp_path, device="cpu")
    with pytest.raises(ArtefactError, match="another config"):
        tune(shop, plan(config=SMALL), out=tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"lerning_rate": {"low": 0.1, "high": 1.0}}, "did you mean 'learning_rate'"),
        ({"encoder.dropout": {"low": 0.1, "high": 1.5}}, r"encoder\.dropout=1\.5"),
        ({"loss.kind": {"values": ["softmax", "hinge"]}}, "'hinge'"),
    ],
)
def test_a_faulty_space_is_refused_before_anything_is_written(
    space: dict[str, Any], message: str, shop: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        tune(shop, plan(space=space), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"low": 1},
        {"low": 2, "high": 1},
        {"low": 0, "high": 1, "log": True},
        {"values": [1], "low": 1, "high": 2},
        {"values": []},
    ],
)
def test_a_space_is_a_range_or_a_choice(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Space.build(values)


def test_a_missing_optuna_is_named(
    shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'seqloom\[tune\]'"):
        tune(shop, plan(), out=tmp_path)
