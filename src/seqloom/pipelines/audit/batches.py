"""Summarises the first epoch of each training phase: a hash of its batches and the first loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from seqloom.core.digest import steps_digest
from seqloom.core.phase import Phase
from seqloom.core.random import derive_seed
from seqloom.distributed.processes import ALONE
from seqloom.systems.base import System, TrainingData

_ROUNDING = 1e-5


@dataclass(frozen=True)
class FirstEpoch:
    """Summary of the first epoch of one phase."""

    batches: str
    """SHA-256 of all batches."""
    loss: dict[str, float]
    """Parts of the first batch's loss, which depend on prompts, teachers, negatives and counts."""

    def same_loss(self, other: FirstEpoch) -> bool:
        """Returns whether the losses are equal up to rounding."""
        return self.loss.keys() == other.loss.keys() and all(
            math.isclose(value, other.loss[name], rel_tol=_ROUNDING, abs_tol=_ROUNDING)
            for name, value in self.loss.items()
        )


def first_epochs(system: System[Any], data: TrainingData) -> dict[str, FirstEpoch]:
    """Returns the first epoch of each phase, by its name.

    Changes the system as training does between phases; pass a copy.
    """
    system.reopen(data)
    return {phase.name: _summarise(phase) for phase in system.phases(data)}


def _summarise(phase: Phase) -> FirstEpoch:
    if not phase.optimisation.epochs:
        return FirstEpoch("", {})
    steps = phase.steps(0)
    return FirstEpoch(steps_digest(steps), _loss(phase, steps[0]) if len(steps) else {})


def _loss(phase: Phase, batch: Any) -> dict[str, float]:
    """Computes the loss as the training loop does, with a fixed random state."""
    device = next((p.device for p in phase.module.parameters()), torch.device("cpu"))
    phase.module.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(derive_seed(0, "audit", phase.name))
        parts = ALONE.add_up(phase.loss(batch.to(device) if hasattr(batch, "to") else batch))
    return {name: float(value) for name, value in parts.items()}
