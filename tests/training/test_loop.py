"""The training loop on a phase small enough to follow by hand."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from seqloom.core.errors import TrainingError
from seqloom.core.phase import Mean, Optimisation
from seqloom.training.checkpoint import Checkpoints
from seqloom.training.log import RunLog
from seqloom.training.loop import Trainer, learning_rate_at


class Slope(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))


class FakePhase:
    name = "fake"
    validated = True

    def __init__(
        self, module: Slope, losses: tuple[float, float] = (1.0, 1.0), **settings: Any
    ) -> None:
        self.module = module
        self.optimisation = Optimisation(**{"epochs": 5, "learning_rate": 0.1, **settings})
        self.losses = losses

    def steps(self, epoch: Any) -> list[Any]:
        return list(self.losses)

    def loss(self, batch: Any) -> dict[Any, Any]:
        return {
            "slope": Mean(batch * self.module.weight.sum(), 1),
            "part": Mean(torch.tensor(batch), 1),
        }


def trainer(tmp_path: Path, phase: FakePhase, values: list[Any], progress: Any = None) -> Trainer:
    given = iter(values)
    return Trainer(
        phase.module,
        [phase],
        lambda: {"ndcg@10": next(given)},
        seed=1,
        device=torch.device("cpu"),
        checkpoints=Checkpoints(tmp_path / "checkpoints"),
        log=RunLog(tmp_path, tensorboard=False),
    )


def test_the_best_weights_are_kept_and_patience_stops(tmp_path: Path) -> None:
    phase = FakePhase(Slope(), patience=2)
    run = trainer(tmp_path, phase, [0.1, 0.3, 0.2, 0.2, 0.9])
    position = run.fit()
    assert (position.best_epoch, position.best_value, len(position.history)) == (2, 0.3, 4)
    # AdamW moves by the learning rate at each of the four steps up to the best epoch.
    assert float(phase.module.weight.detach()) == pytest.approx(-0.4, abs=1e-3)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["valid"]["ndcg@10"] for row in rows] == [0.1, 0.3, 0.2, 0.2]
    assert rows[0]["train"].keys() == {"loss", "slope", "part"}


@pytest.mark.parametrize(
    ("steps", "epochs"), [(0, 4), (4, 4), (5, 5), (6, 5), (7, 6)], ids="steps={}".format
)
def test_patience_lasts_for_a_number_of_steps(tmp_path: Path, steps: int, epochs: int) -> None:
    """An epoch has two steps, the best one is the second, and patience is two epochs."""
    phase = FakePhase(Slope(), epochs=9, patience=2, patience_steps=steps)
    position = trainer(tmp_path, phase, [0.1, 0.3, *[0.2] * 7]).fit()
    assert (position.best_epoch, len(position.history)) == (2, epochs)


def test_without_a_number_of_steps_patience_plans_no_further_epoch(tmp_path: Path) -> None:
    """Phases that fit weights do so in `steps`: one call more would change what was chosen."""
    asked: list[int] = []

    class Asked(FakePhase):
        def steps(self, epoch: Any) -> list[Any]:
            asked.append(epoch)
            return super().steps(epoch)

    phase = Asked(Slope(), epochs=9, patience=1)
    trainer(tmp_path, phase, [0.3, 0.2]).fit()
    assert asked == [0, 1]


def test_a_late_improvement_within_the_steps_is_kept(tmp_path: Path) -> None:
    phase = FakePhase(Slope(), epochs=6, patience=1, patience_steps=6)
    position = trainer(tmp_path, phase, [0.3, 0.2, 0.2, 0.4, 0.1, 0.1]).fit()
    assert (position.best_epoch, len(position.history)) == (4, 6)


def test_without_validation_the_last_weights_stay(tmp_path: Path) -> None:
    phase = FakePhase(Slope(), epochs=2)
    phase.validated = False
    trainer(tmp_path, phase, []).fit()
    assert float(phase.module.weight.detach()) == pytest.approx(-0.4, abs=1e-3)


def test_a_loss_that_is_not_finite_names_its_step(tmp_path: Path) -> None:
    phase = FakePhase(Slope(), losses=(1.0, math.nan))
    with pytest.raises(TrainingError, match=r"loss is nan in phase 'fake', epoch 1, step 2"):
        trainer(tmp_path, phase, [0.1]).fit()


def test_the_host_program_keeps_its_random_state(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    trainer(tmp_path, FakePhase(Slope(), epochs=1), [0.1]).fit()
    assert torch.equal(before, torch.random.get_rng_state())


def test_warm_up_rises_and_cosine_falls() -> None:
    settings = Optimisation(epochs=1, learning_rate=1.0, warmup_steps=4, schedule="cosine")
    rates = [learning_rate_at(settings, step, 12) for step in range(12)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[8] == pytest.approx(0.5)
    assert all(a > b for a, b in itertools.pairwise(rates[4:]))
