"""Checkpoints that a killed run resumes from, bit by bit: weights, optimiser and position."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from seqloom.core.config import Config
from seqloom.core.damage import reading
from seqloom.core.errors import ArtefactError
from seqloom.core.files import atomic_folder, read_json, write_json
from seqloom.core.tensors import write_tensors
from seqloom.training.averaging import WeightAverage
from seqloom.training.state_files import (
    REMEDY,
    check_hashes,
    read_state,
    read_whole,
    write_hashes,
)


class Choice(Config):
    """The validation whose weights a training ends with, as far as it has come."""

    phase: int
    """Number of the phase."""
    name: str
    """Name of the phase."""
    epoch: int
    """Epochs of the phase that were complete, from 1."""
    metric: str
    """The metric that chose."""
    metrics: dict[str, float]

    @property
    def value(self) -> float:
        """What was compared."""
        return self.metrics[self.metric]


class Position(Config):
    """Where a run stands, and what it has measured so far."""

    phase: int = 0
    epoch: int = 0
    """Epochs of the phase that are complete."""
    step: int = 0
    """Steps of the running epoch that are complete."""
    sums: dict[str, float] = Field(default_factory=dict)
    """Loss parts summed over the running epoch's steps."""
    epoch_targets: int = 0
    """Targets of the running epoch so far."""
    epoch_seconds: float = 0.0
    """Seconds spent in the running epoch so far."""
    best_value: float | None = None
    """Of the running phase, as the next four; at the end of the weights that are kept."""
    best_phase: str | None = None
    best_epoch: int | None = None
    best_metrics: dict[str, float] = Field(default_factory=dict)
    stale: int = 0
    """Validations since the best one."""
    choice: Choice | None = None
    """Of the phases so far that compete."""
    history: list[dict[str, Any]] = Field(default_factory=list)
    """One row for each complete epoch of every phase."""


class Checkpoints:
    """The folder `checkpoints/` of a run: `last/` to resume from, and the best weights of phases."""

    def __init__(self, folder: Path, fixed: frozenset[str] = frozenset()) -> None:
        """`fixed` names state entries that training never changes; they are not written."""
        self.folder = folder
        self.fixed = fixed

    def save_last(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        position: Position,
        average: WeightAverage | None = None,
    ) -> None:
        """Replace `last/` by the present state, atomically."""
        with atomic_folder(self.folder / "last", overwrite=True) as work:
            write_tensors(work / "model.safetensors", self._state(model))
            write_tensors(work / "optimiser.safetensors", flatten(model, optimiser))
            if average is not None:
                write_tensors(work / "average.safetensors", average.tensors())
            write_json(work / "position.json", position.model_dump(mode="json"), sealed=True)
            write_hashes(work)

    def has_last(self) -> bool:
        """Whether there is something to resume from."""
        return (self.folder / "last" / "position.json").exists()

    def read_position(self) -> Position:
        """The position of `last/`.

        Raises:
            ArtefactError: it is missing, or a file of the checkpoint is damaged or was changed.
        """
        check_hashes(self.folder / "last")
        raw = read_json(self.folder / "last" / "position.json", "checkpoint")
        with reading(self.folder / "last" / "position.json", "a position in training", REMEDY):
            return Position.build(raw)

    def restore_model(self, model: nn.Module) -> None:
        """Load the weights of `last/` into `model`."""
        self._restore(model, self.folder / "last" / "model")

    def restore_optimiser(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Load the state of `last/` into a fresh optimiser over the same parameters of `model`."""
        order = _in_order(model, optimiser)

        def parameter(name: str) -> Tensor:
            return order[int(name.partition(".")[0])]

        file = self.folder / "last" / "optimiser"
        state = read_state(file, parameter)
        with reading(file, "the state of an optimiser", REMEDY):
            _unflatten(order, optimiser, state)

    def read_average(self) -> dict[str, Tensor]:
        """The state of the weights' mean in `last/`."""
        return read_whole(self.folder / "last" / "average.safetensors")

    def save_best(self, model: nn.Module, phase: int) -> None:
        """Keep the present weights as the best of a phase."""
        with atomic_folder(self.best(phase), overwrite=True) as work:
            write_tensors(work / "model.safetensors", self._state(model))
            write_hashes(work)

    def restore_best(self, model: nn.Module, phase: int) -> None:
        """Load the best weights of a phase into `model`."""
        folder = self.best(phase)
        if not folder.exists():
            folder = self.folder / "best"  # of an older seqloom, which kept those of one phase
        check_hashes(folder)
        self._restore(model, folder / "model")

    def keep_best(self, phases: set[int]) -> None:
        """Remove the best weights of all other phases."""
        kept = {self.best(phase) for phase in phases}
        for folder in self.folder.glob("best-*"):
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def best(self, phase: int) -> Path:
        """Where the best weights of a phase are."""
        return self.folder / f"best-{phase}"

    def drop_last(self) -> None:
        """Remove `last/`: the run is complete."""
        shutil.rmtree(self.folder / "last", ignore_errors=True)

    def _state(self, model: nn.Module) -> dict[str, Tensor]:
        state = model.state_dict()
        return {k: v.detach().contiguous() for k, v in state.items() if k not in self.fixed}

    def due(self, saved: float, every_s: float) -> bool:
        """Whether it is time for another, after one at `saved` (`time.monotonic`)."""
        return time.monotonic() - saved > every_s

    def _restore(self, model: nn.Module, file: Path) -> None:
        state = read_state(file, model.state_dict().get)
        with reading(file, "the weights of this model", REMEDY):
            missing, unexpected = model.load_state_dict(state, strict=False)
        missing = [name for name in missing if name not in self.fixed]
        if missing or unexpected:
            raise ArtefactError(
                f"{file} is of another model: missing {missing}, unexpected {unexpected}"
            )


class OthersCheckpoints(Checkpoints):
    """Those of a run that another process writes: here they are only read."""

    def save_last(self, *state: Any) -> None:
        """Nothing."""

    def save_best(self, model: nn.Module, phase: int) -> None:
        """Nothing."""

    def keep_best(self, phases: set[int]) -> None:
        """Nothing."""

    def drop_last(self) -> None:
        """Nothing."""


def flatten(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Optimiser state as named tensors: `<parameter number>.<entry>`."""
    return {
        f"{number}.{entry}": value.detach().contiguous()
        for number, parameter in enumerate(_in_order(model, optimiser))
        for entry, value in optimiser.state[parameter].items()
    }


def _unflatten(
    order: list[nn.Parameter], optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    entries: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, entry = name.partition(".")
        entries.setdefault(id(order[int(number)]), {})[entry] = value
    groups = optimiser.state_dict()["param_groups"]
    places = enumerate(p for group in optimiser.param_groups for p in group["params"])
    state = {place: entries[id(p)] for place, p in places if id(p) in entries}
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def _in_order(model: nn.Module, optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    """What is optimised, matrices first: the same in every division, whatever the optimiser's groups."""
    optimised = {id(p) for group in optimiser.param_groups for p in group["params"]}
    return sorted((p for p in model.parameters() if id(p) in optimised), key=lambda p: p.ndim < 2)
