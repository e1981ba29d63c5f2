"""Checkpoints of weights, optimiser and position, from which a killed run resumes bit by bit."""

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
    """The best validation so far, whose weights the training keeps."""

    phase: int
    """Number of the phase."""
    name: str
    """Name of the phase."""
    epoch: int
    """Number of complete epochs of the phase, from 1."""
    metric: str
    """Name of the metric that was compared."""
    metrics: dict[str, float]

    @property
    def value(self) -> float:
        """Value of the metric."""
        return self.metrics[self.metric]


class Position(Config):
    """The position of a run in its training, and its measurements so far."""

    phase: int = 0
    epoch: int = 0
    """Number of complete epochs of the phase."""
    step: int = 0
    """Number of complete steps of the current epoch."""
    sums: dict[str, float] = Field(default_factory=dict)
    """Loss parts, summed over the steps of the current epoch."""
    epoch_targets: int = 0
    """Number of targets in the current epoch so far."""
    epoch_seconds: float = 0.0
    """Seconds spent in the current epoch so far."""
    best_value: float | None = None
    """Best validation of the phase, as the next three fields; at the end, that of the kept weights."""
    best_phase: str | None = None
    best_epoch: int | None = None
    best_metrics: dict[str, float] = Field(default_factory=dict)
    stale: int = 0
    """Number of validations since the best one."""
    choice: Choice | None = None
    """Best validation of all competing phases so far."""
    history: list[dict[str, Any]] = Field(default_factory=list)
    """One row for each complete epoch of every phase."""

    @property
    def logged_seconds(self) -> float:
        """Seconds of all complete epochs and their validations, those of earlier calls included."""
        return sum(row["seconds"] + row.get("valid_seconds", 0.0) for row in self.history)


class Checkpoints:
    """The folder `checkpoints/` of a run: `last/` for resuming, and the best weights of phases."""

    def __init__(self, folder: Path, fixed: frozenset[str] = frozenset()) -> None:
        """`fixed` names state entries that training never changes; these are not written."""
        self.folder = folder
        self.fixed = fixed

    def save_last(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        position: Position,
        average: WeightAverage | None = None,
    ) -> None:
        """Replaces `last/` by the present state, atomically."""
        with atomic_folder(self.folder / "last", overwrite=True) as work:
            write_tensors(work / "model.safetensors", self._state(model))
            write_tensors(work / "optimiser.safetensors", flatten(model, optimiser))
            if average is not None:
                write_tensors(work / "average.safetensors", average.tensors())
            write_json(work / "position.json", position.model_dump(mode="json"), sealed=True)
            write_hashes(work)

    def has_last(self) -> bool:
        """Returns whether `last/` exists."""
        return (self.folder / "last" / "position.json").exists()

    def read_position(self) -> Position:
        """Reads the position of `last/`.

        Raises:
            ArtefactError: it is missing, or a file of the checkpoint is damaged or was changed.
        """
        check_hashes(self.folder / "last")
        raw = read_json(self.folder / "last" / "position.json", "checkpoint")
        with reading(self.folder / "last" / "position.json", "a position in training", REMEDY):
            return Position.build(raw)

    def restore_model(self, model: nn.Module) -> None:
        """Loads the weights of `last/` into `model`."""
        self._restore(model, self.folder / "last" / "model")

    def restore_optimiser(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Loads the state of `last/` into a new optimiser of the same parameters of `model`."""
        order = _in_order(model, optimiser)

        def parameter(name: str) -> Tensor:
            return order[int(name.partition(".")[0])]

        file = self.folder / "last" / "optimiser"
        state = read_state(file, parameter)
        with reading(file, "the state of an optimiser", REMEDY):
            _unflatten(order, optimiser, state)

    def read_average(self) -> dict[str, Tensor]:
        """Reads the mean of the weights in `last/`."""
        return read_whole(self.folder / "last" / "average.safetensors")

    def save_best(self, model: nn.Module, phase: int) -> None:
        """Writes the present weights as the best of a phase."""
        with atomic_folder(self.best(phase), overwrite=True) as work:
            write_tensors(work / "model.safetensors", self._state(model))
            write_hashes(work)

    def restore_best(self, model: nn.Module, phase: int) -> None:
        """Loads the best weights of a phase into `model`."""
        folder = self.best(phase)
        if not folder.exists():
            folder = self.folder / "best"  # seqloom 0.1 stored those of one phase only
        check_hashes(folder)
        self._restore(model, folder / "model")

    def keep_best(self, phases: set[int]) -> None:
        """Removes the best weights of all other phases."""
        kept = {self.best(phase) for phase in phases}
        for folder in self.folder.glob("best-*"):
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def best(self, phase: int) -> Path:
        """Returns the folder of the best weights of a phase."""
        return self.folder / f"best-{phase}"

    def drop_last(self) -> None:
        """Removes `last/` of a complete run."""
        shutil.rmtree(self.folder / "last", ignore_errors=True)

    def _state(self, model: nn.Module) -> dict[str, Tensor]:
        state = model.state_dict()
        return {k: v.detach().contiguous() for k, v in state.items() if k not in self.fixed}

    def due(self, saved: float, every_s: float) -> bool:
        """Returns whether `every_s` seconds have passed since `saved` (`time.monotonic`)."""
        return time.monotonic() - saved > every_s

    def _restore(self, model: nn.Module, file: Path) -> None:
        state = read_state(file, model.state_dict().get)
        with reading(file, "the weights of this model", REMEDY):
            missing, unexpected = model.load_state_dict(state, strict=False)
        missing = [name for name in missing if name not in self.fixed]
        if missing or unexpected:
            raise ArtefactError(
                f"{file} belongs to another model: missing {missing}, unexpected {unexpected}"
            )


class OthersCheckpoints(Checkpoints):
    """Checkpoints that another process writes and this one only reads."""

    def save_last(self, *state: Any) -> None:
        """Does nothing."""

    def save_best(self, model: nn.Module, phase: int) -> None:
        """Does nothing."""

    def keep_best(self, phases: set[int]) -> None:
        """Does nothing."""

    def drop_last(self) -> None:
        """Does nothing."""


def flatten(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns the optimiser state as named tensors: `<parameter number>.<entry>`."""
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
    """Returns the optimised parameters, matrices first: an order that does not depend on the groups."""
    optimised = {id(p) for group in optimiser.param_groups for p in group["params"]}
    return sorted((p for p in model.parameters() if id(p) in optimised), key=lambda p: p.ndim < 2)
