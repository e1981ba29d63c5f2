"""Which weights a training of several phases ends with, unbroken or killed anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from seqloom.core.phase import Mean, Optimisation
from seqloom.core.progress import SILENT, Progress, SilentProgress
from seqloom.training.checkpoint import Checkpoints, Position
from seqloom.training.log import NoLog
from seqloom.training.loop import Trainer


class KilledError(Exception):
    """In place of a kill: whatever was written before it stays."""


class Named(nn.Module):
    """A weight that training moves, and names that a phase renews, as IDs are."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("names", torch.tensor(-1))


class Phase:
    """Each step moves the weight by about -0.1; the first of the phase renews the names."""

    def __init__(self, module: Any, number: int, validated: bool = True, **settings: Any) -> None:
        self.module, self.name, self.number = module, f"phase-{number}", number
        self.validated = validated
        self.optimisation = Optimisation(**{"epochs": 2, "learning_rate": 0.1, **settings})

    def steps(self, epoch: Any) -> list[Any]:
        if int(self.module.names) < self.number:
            self.module.names.fill_(self.number)
        return [1.0, 1.0]

    def loss(self, batch: Any) -> dict[Any, Any]:
        return {"loss": Mean(batch * self.module.weight.sum(), 1)}


class Breaking(Checkpoints):
    """Dies after the k-th thing that it writes or removes."""

    def __init__(self, folder: Path, k: int | None = None) -> None:
        super().__init__(folder)
        self.left = k

    def _count(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KilledError

    def save_last(self, *state: Any) -> None:
        super().save_last(*state)
        self._count()

    def save_best(self, *state: Any) -> None:
        super().save_best(*state)
        self._count()

    def keep_best(self, phases: Any) -> None:
        super().keep_best(phases)
        self._count()


def trained(
    folder: Path,
    values: dict[int, float],
    made: Callable[..., Any],
    k: int | None = None,
    progress: Progress = SILENT,
) -> tuple[Named, Position]:
    """The model and the position after training; `values` are validation metrics by the weight's place."""
    model = Named()

    def validate() -> dict[Any, Any]:
        return {"ndcg@10": values[round(-10 * float(model.weight.detach()))], "hr@10": 0.0}

    trainer = Trainer(
        model,
        made(model),
        validate,
        seed=1,
        device=torch.device("cpu"),
        checkpoints=Breaking(folder / "checkpoints", k),
        log=NoLog(),
        checkpoint_every_s=0,
        progress=progress,
    )
    return model, trainer.fit(resume=True)


def two(model: Any) -> list[Any]:
    return [Phase(model, 0), Phase(model, 1)]


def end(model: Any, position: Position) -> dict[Any, Any]:
    return {
        "weight": round(-10 * float(model.weight.detach())),
        "names": int(model.names),
        "phase": position.best_phase,
        "epoch": position.best_epoch,
        "valid": position.best_metrics.get("ndcg@10"),
    }


# The weight's place is the number of steps behind it: phase 0 passes 2 and 4, phase 1 goes on from the
# better of the two.
CASES = {
    "the earlier phase was better": (
        two,
        {2: 0.1, 4: 0.5, 6: 0.4, 8: 0.3},
        {"weight": 4, "names": 0, "phase": "phase-0", "epoch": 2, "valid": 0.5},
    ),
    "the earlier phase was better, though not at its end": (
        two,
        {2: 0.5, 4: 0.1, 6: 0.2},
        {"weight": 2, "names": 0, "phase": "phase-0", "epoch": 1, "valid": 0.5},
    ),
    "the later phase was better": (
        two,
        {2: 0.1, 4: 0.5, 6: 0.4, 8: 0.6},
        {"weight": 8, "names": 1, "phase": "phase-1", "epoch": 2, "valid": 0.6},
    ),
    "equal values keep the earlier": (
        two,
        {2: 0.1, 4: 0.5, 6: 0.5, 8: 0.5},
        {"weight": 4, "names": 0, "phase": "phase-0", "epoch": 2, "valid": 0.5},
    ),
    "a phase between is not validated, and the last is worse": (
        lambda m: [Phase(m, 0), Phase(m, 1, validated=False), Phase(m, 2)],
        {2: 0.1, 4: 0.5, 10: 0.4, 12: 0.3},
        {"weight": 4, "names": 0, "phase": "phase-0", "epoch": 2, "valid": 0.5},
    ),
    "the best of three is the middle one": (
        lambda m: [Phase(m, 0), Phase(m, 1), Phase(m, 2)],
        {2: 0.1, 4: 0.5, 6: 0.6, 8: 0.3, 10: 0.2},
        {"weight": 6, "names": 1, "phase": "phase-1", "epoch": 1, "valid": 0.6},
    ),
    "a phase that gains nothing is undone before the next": (
        lambda m: [Phase(m, n, undone_unless_best=True) for n in range(3)],
        # Phase 2 goes on from place 4, not from place 6, the best of phase 1; its names are its own.
        {2: 0.1, 4: 0.5, 6: 0.4, 8: 0.3},
        {"weight": 4, "names": 0, "phase": "phase-0", "epoch": 2, "valid": 0.5},
    ),
    "the later phase measures something else": (
        lambda m: [Phase(m, 0), Phase(m, 1, chosen_among="phase")],
        {2: 0.1, 4: 0.5, 6: 0.3, 8: 0.4},
        {"weight": 8, "names": 1, "phase": "phase-1", "epoch": 2, "valid": 0.4},
    ),
    "the later phase is chosen on another metric": (
        lambda m: [Phase(m, 0), Phase(m, 1, metric="hr@10")],
        {2: 0.1, 4: 0.5, 6: 0.3, 8: 0.4},
        {"weight": 6, "names": 1, "phase": "phase-1", "epoch": 1, "valid": 0.3},
    ),
    "the later phase has no epoch": (
        lambda m: [Phase(m, 0), Phase(m, 1, epochs=0)],
        {2: 0.5, 4: 0.1},
        {"weight": 2, "names": 0, "phase": "phase-0", "epoch": 1, "valid": 0.5},
    ),
    "the last phase is not validated": (
        lambda m: [Phase(m, 0), Phase(m, 1, validated=False)],
        {2: 0.1, 4: 0.5},
        {"weight": 8, "names": 1, "phase": None, "epoch": None, "valid": None},
    ),
    "a phase shorter than the distance of its validations has one at its end": (
        lambda m: [Phase(m, 0), Phase(m, 1, validate_every=5)],
        {2: 0.1, 4: 0.5, 8: 0.6},
        {"weight": 8, "names": 1, "phase": "phase-1", "epoch": 2, "valid": 0.6},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_best_of_all_phases_is_kept_wherever_training_was_killed(
    tmp_path: Path, case: str
) -> None:
    phases, values, expected = CASES[case]
    model, position = trained(tmp_path / "whole", values, phases)
    assert end(model, position) == expected
    kills = 0
    while True:
        folder = tmp_path / str(kills)
        try:
            trained(folder, values, phases, k=kills + 1)
        except KilledError:
            kills += 1
        else:
            break
        again, resumed = trained(folder, values, phases)
        assert end(again, resumed) == expected
        assert torch.equal(again.weight, model.weight)
        assert [r["train"] for r in resumed.history] == [r["train"] for r in position.history]
    assert kills > 8


def test_a_phase_that_gains_is_built_on(tmp_path: Path) -> None:
    values = {2: 0.1, 4: 0.5, 6: 0.6, 8: 0.3, 10: 0.7}
    model, position = trained(
        tmp_path, values, lambda m: [Phase(m, n, undone_unless_best=True) for n in range(3)]
    )
    expected = {"weight": 10, "names": 2, "phase": "phase-2", "epoch": 2, "valid": 0.7}
    assert end(model, position) == expected


def test_a_phase_that_is_not_validated_is_undone_with_the_one_after_it(tmp_path: Path) -> None:
    values = {2: 0.1, 4: 0.5, 10: 0.4, 12: 0.3, 6: 0.6, 8: 0.2}

    def phases(m: Any) -> list[Any]:
        between = Phase(m, 1, validated=False)
        return [Phase(m, 0), between, Phase(m, 2, undone_unless_best=True), Phase(m, 3)]

    model, position = trained(tmp_path, values, phases)
    expected = {"weight": 6, "names": 3, "phase": "phase-3", "epoch": 1, "valid": 0.6}
    assert end(model, position) == expected


def test_weights_that_can_no_longer_be_chosen_are_removed(tmp_path: Path) -> None:
    values = {2: 0.1, 4: 0.5, 6: 0.6, 8: 0.3, 10: 0.2}
    trained(tmp_path, values, lambda m: [Phase(m, 0), Phase(m, 1), Phase(m, 2)])
    folders = sorted(f.name for f in (tmp_path / "checkpoints").glob("best*"))
    assert folders == ["best-1", "best-2"]


def test_a_training_that_an_older_version_began_is_resumed(tmp_path: Path) -> None:
    values = {2: 0.5, 4: 0.1}

    def one(model: Any) -> list[Any]:
        return [Phase(model, 0)]

    with pytest.raises(KilledError):  # after the checkpoint of the last epoch
        trained(tmp_path, values, one, k=8)
    folder = tmp_path / "checkpoints"
    (folder / "best-0").rename(folder / "best")
    file = folder / "last" / "position.json"
    position = json.loads(file.read_text())
    assert position["epoch"] == 2
    for new in ("choice", "best_phase", "checksum"):
        del position[new]
    file.write_text(json.dumps(position))
    (folder / "last" / "hashes.json").unlink()  # older versions wrote none
    model, position = trained(tmp_path, values, one)
    assert round(-10 * float(model.weight.detach())) == 2
    assert (position.best_epoch, position.best_value) == (1, 0.5)


class Notes(SilentProgress):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


def test_a_resumed_training_says_from_where(tmp_path: Path) -> None:
    values = {2: 0.1, 4: 0.5, 6: 0.4, 8: 0.3}
    first, second = Notes(), Notes()
    with pytest.raises(KilledError):
        trained(tmp_path, values, two, k=2, progress=first)
    trained(tmp_path, values, two, progress=second)
    assert not any(line.startswith("resume") for line in first.lines)
    assert second.lines[0].startswith("resume: phase phase-0, 0 epochs complete, step ")
