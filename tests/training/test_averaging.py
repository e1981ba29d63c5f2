"""The mean of the weights that training passes through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from seqloom.core.phase import Mean, Optimisation
from seqloom.training.averaging import WeightAverage
from seqloom.training.checkpoint import Checkpoints
from seqloom.training.log import RunLog
from seqloom.training.loop import Trainer


class Scale(nn.Module):
    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[value]]))
        self.fixed = nn.Parameter(torch.tensor(7.0), requires_grad=False)


def set_to(module: Scale, value: float) -> None:
    with torch.no_grad():
        module.weight.fill_(value)


def mean_of(values: list[Any], power: float) -> float:
    module = Scale(100.0)
    average = WeightAverage(module, power)
    for value in values:
        set_to(module, value)
        average.add()
    average.apply()
    return float(module.weight.detach())


def test_power_one_is_the_plain_mean() -> None:
    assert mean_of([1.0, 2.0, 6.0], 1.0) == pytest.approx(3.0)


def test_addition_i_weighs_about_i_to_the_power_less_one() -> None:
    values = torch.linspace(0, 1, 2000)
    weights = torch.arange(1, 2001, dtype=torch.float64) ** 8
    expected = float((weights * values).sum() / weights.sum())
    assert mean_of(values.tolist(), 9.0) == pytest.approx(expected, abs=1e-3)


def test_the_mean_is_in_use_within_the_block_only() -> None:
    module = Scale(2.0)
    average = WeightAverage(module, 1.0)
    average.add()
    set_to(module, 4.0)
    average.add()
    with average.in_use():
        assert float(module.weight.detach()) == 3.0
    assert float(module.weight.detach()) == 4.0
    assert float(module.fixed) == 7.0


def test_restored_it_continues_as_if_never_stopped() -> None:
    module = Scale()
    whole, first = WeightAverage(module, 3.0), WeightAverage(module, 3.0)
    for value in (1.0, 5.0):
        set_to(module, value)
        whole.add()
        first.add()
    second = WeightAverage(Scale(9.0), 3.0)
    second.restore(first.tensors())
    set_to(module, 2.0)
    whole.add()
    resumed = WeightAverage(module, 3.0)
    resumed.restore(second.tensors())
    resumed.add()
    assert resumed.tensors()["0"].equal(whole.tensors()["0"])


class Descent:
    """Every step lowers the weight by the learning rate, 0.1."""

    name = "descent"

    def __init__(self, *, validated: bool) -> None:
        self.module = Scale()
        self.optimisation = Optimisation(epochs=3, learning_rate=0.1, averaging=1.0)
        self.validated = validated

    def steps(self, epoch: Any) -> list[Any]:
        return [1.0]

    def loss(self, batch: Any) -> dict[Any, Any]:
        return {"loss": Mean(batch * self.module.weight.sum(), 1)}


@pytest.mark.parametrize("validated", [True, False])
def test_the_loop_validates_and_keeps_the_mean_and_trains_on_from_its_own(
    tmp_path: Path, validated: bool
) -> None:
    phase, seen = Descent(validated=validated), []

    def validate() -> dict[Any, Any]:
        seen.append(float(phase.module.weight.detach()))
        return {"ndcg@10": -seen[-1]}

    Trainer(
        phase.module,
        [phase],
        validate,
        seed=1,
        device=torch.device("cpu"),
        checkpoints=Checkpoints(tmp_path / "checkpoints"),
        log=RunLog(tmp_path, tensorboard=False),
    ).fit()
    assert seen == pytest.approx([-0.1, -0.15, -0.2] if validated else [], abs=1e-5)
    assert float(phase.module.weight.detach()) == pytest.approx(-0.2, abs=1e-5)
