"""Recorded steps, with a recorder for a CPU that replays by calling the step on the same tensors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seqloom.core.random import derive_seed
from seqloom.data.batches import TrainingBatch
from seqloom.data.store import Dataset
from seqloom.nn.graphs import Results
from seqloom.pipelines.train.fit_run import start_system
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.config import SASRecConfig
from seqloom.systems.sequence import RankingPhase
from seqloom.training.checkpoint import Checkpoints
from seqloom.training.log import RunLog
from seqloom.training.loop import Trainer
from seqloom.training.replay import Replayer, StepTaker
from seqloom.training.step import Stepper
from support.datasets import tiny_dataset
from support.recorders import Refusing, SameTensors

CPU = torch.device("cpu")
CONFIG = {
    "batch_size": 8,
    "weight_decay": 0.01,
    "clip_norm": 1.0,
    "encoder": {"hidden_size": 8, "max_len": 12, "dropout": 0.3},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    draw = torch.Generator().manual_seed(1)
    lengths = torch.randint(4, 14, (70,), generator=draw).tolist()
    histories = [(torch.randint(20, (n,), generator=draw) + 1).tolist() for n in lengths]
    return tiny_dataset(tmp_path_factory.mktemp("data") / "d", histories)


def new_stepper(data: Dataset, **config: Any) -> Stepper:
    built = SASRecConfig.build({**CONFIG, **config})
    training = TrainingData(data)
    system: Any = start_system("sasrec", built, Sizes(num_items=data.num_items), training)
    return Stepper.of(RankingPhase(system.train(), training), CPU)


def epochs(stepper: Stepper, take: Callable[[Any, int], Results], count: int = 4) -> list[Results]:
    """Trains, spoiling each batch once it was used, and returns the losses of all steps."""
    losses = []
    for epoch in range(count):
        plan = stepper.phase.steps(epoch)
        for step in range(len(plan)):
            stepper.set_rate(1e-3 * (1 + step))
            batch = plan[step]
            losses.append(take(batch, derive_seed(7, epoch, step)))
            for tensor in batch.tensors():
                tensor.fill_(1)
    return losses


def weights(stepper: Stepper) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in stepper.phase.module.state_dict().items()}


def assert_equal(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


def test_replayed_steps_have_the_bits_of_steps_taken_one_by_one(data: Dataset) -> None:
    one, other = new_stepper(data), new_stepper(data)
    single = Replayer(one, SameTensors(), pytest.fail, most=0)
    recorder = SameTensors()
    replayer = Replayer(other, recorder, pytest.fail)
    expected, actual = epochs(one, single), epochs(other, replayer)
    for a, b in zip(actual, expected, strict=True):
        assert_equal(a, b)
    assert_equal(weights(other), weights(one))
    assert single.shapes == 0
    assert recorder.recorded == replayer.shapes > 1
    assert recorder.replayed > recorder.recorded


def test_padding_changes_the_steps_by_rounding_alone(data: Dataset) -> None:
    dry = {"encoder": {**CONFIG["encoder"], "dropout": 0.0, "output_dropout": 0.0}}  # type: ignore[dict-item]
    one, other = new_stepper(data, **dry), new_stepper(data, **dry)
    expected = epochs(one, lambda batch, seed: one(batch))
    actual = epochs(other, Replayer(other, SameTensors(), pytest.fail))
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a["loss"], b["loss"], rtol=1e-4, atol=1e-5)


def test_the_number_of_recordings_is_bounded(data: Dataset) -> None:
    stepper, recorder = new_stepper(data), SameTensors()
    epochs(stepper, Replayer(stepper, recorder, pytest.fail, most=2))
    assert recorder.recorded == 2


def test_a_step_that_cannot_be_recorded_is_taken_all_the_same(data: Dataset) -> None:
    one, other = new_stepper(data), new_stepper(data)
    notes: list[str] = []
    expected = epochs(one, Replayer(one, SameTensors(), pytest.fail, most=0))
    actual = epochs(other, Replayer(other, Refusing(), notes.append))
    for a, b in zip(actual, expected, strict=True):
        assert_equal(a, b)
    assert notes == [
        "steps are not recorded as graphs (called a synchronizing operation); they are taken one by one"
    ]


@pytest.mark.parametrize(("kind", "recorded"), [("softmax", True), ("gbce", False)])
def test_only_phases_that_allow_it_are_recorded(data: Dataset, kind: str, recorded: bool) -> None:
    recorder = SameTensors()
    stepper = new_stepper(data, loss={"kind": kind})
    epochs(stepper, StepTaker(stepper, recorder, pytest.fail))
    assert bool(recorder.recorded) == recorded


def test_without_a_recorder_a_cpu_takes_batches_as_they_are(data: Dataset) -> None:
    one, other = new_stepper(data), new_stepper(data)
    expected: list[Results] = []

    def plain(batch: TrainingBatch, seed: int) -> Results:
        torch.manual_seed(seed)
        return one(batch)

    expected = epochs(one, plain)
    take = StepTaker(other, None, pytest.fail)

    def seeded(batch: TrainingBatch, seed: int) -> Results:
        torch.manual_seed(seed)
        return take(batch, seed)

    for a, b in zip(epochs(other, seeded), expected, strict=True):
        assert_equal(a, b)


def fit(data: Dataset, folder: Path, stop_after: int | None = None) -> dict[str, Tensor]:
    """Trains with recorded steps, resuming what is there; stops after some validations."""
    folder.mkdir(exist_ok=True)
    stepper = new_stepper(data, epochs=4, patience=None)
    validations = 0

    def validate() -> dict[str, float]:
        nonlocal validations
        validations += 1
        if validations == stop_after:
            raise KeyboardInterrupt
        return {"ndcg@10": float(len(trainer.position.history))}

    trainer = Trainer(
        stepper.phase.module,
        [stepper.phase],
        validate,
        seed=3,
        device=CPU,
        checkpoints=Checkpoints(folder / "checkpoints"),
        log=RunLog(folder, tensorboard=False),
        recorder=SameTensors(),
    )
    if stop_after is None:
        trainer.fit(resume=True)
    else:
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(resume=True)
    return weights(stepper)


def test_a_resumed_run_has_the_bits_of_an_unbroken_one(data: Dataset, tmp_path: Path) -> None:
    whole = fit(data, tmp_path / "whole")
    fit(data, tmp_path / "broken", stop_after=3)
    assert_equal(fit(data, tmp_path / "broken"), whole)


def test_batches_are_made_ahead_in_order_and_by_one_thread(data: Dataset) -> None:
    stepper = new_stepper(data)
    plan = stepper.phase.steps(0)
    made: list[tuple[int, str]] = []

    class Noted:
        def __len__(self) -> int:
            return len(plan)

        def __getitem__(self, step: int) -> TrainingBatch:
            made.append((step, threading.current_thread().name[:7]))
            batch: TrainingBatch = plan[step]
            return batch

    make = StepTaker(stepper, SameTensors(), pytest.fail).batches(Noted())
    for step in range(2, len(plan)):  # from the middle, as a resumed run
        expected = plan[step].padded()
        for a, b in zip(make(step).tensors(), expected.tensors(), strict=True):
            assert torch.equal(a, b)
    assert made == [(step, "batches") for step in range(2, len(plan))]


def test_without_a_recorder_batches_are_made_where_they_are_used(data: Dataset) -> None:
    stepper = new_stepper(data)
    plan = stepper.phase.steps(0)
    make = StepTaker(stepper, None, pytest.fail).batches(plan)
    assert not make(0).has_gaps
