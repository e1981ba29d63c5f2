"""What training is given and what it makes of it: the first epoch's batches, and a loss, of every phase."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from seqloom.core.phase import Phase
from seqloom.core.random import derive_seed
from seqloom.distributed.processes import ALONE
from seqloom.systems.base import System, TrainingData

if TYPE_CHECKING:
    from hashlib import _Hash

_ROUNDING = 1e-5


@dataclass(frozen=True)
class FirstEpoch:
    """The first epoch of one phase, in short."""

    batches: str
    """SHA-256 over all its batches."""
    loss: dict[str, float]
    """The parts of the first batch's loss: what prompts, teachers, negatives and counts come to."""

    def same_loss(self, other: FirstEpoch) -> bool:
        """Whether the parts are the same but for rounding."""
        return self.loss.keys() == other.loss.keys() and all(
            math.isclose(value, other.loss[name], rel_tol=_ROUNDING, abs_tol=_ROUNDING)
            for name, value in self.loss.items()
        )


def first_epochs(system: System[Any], data: TrainingData) -> dict[str, FirstEpoch]:
    """The first epoch of each phase that is trained, by the phase's name.

    The system is changed as training changes it between phases; use one that nobody needs.
    """
    system.reopen(data)
    return {phase.name: _first(phase) for phase in system.phases(data)}


def _first(phase: Phase) -> FirstEpoch:
    digest = hashlib.sha256()
    loss: dict[str, float] = {}
    if phase.optimisation.epochs:
        steps = phase.steps(0)
        for step in range(len(steps)):
            _add(digest, steps[step])
        if len(steps):
            loss = _loss(phase, steps[0])
    return FirstEpoch(digest.hexdigest(), loss)


def _loss(phase: Phase, batch: Any) -> dict[str, float]:
    """As the training loop asks for it, with a random state of its own."""
    device = next((p.device for p in phase.module.parameters()), torch.device("cpu"))
    phase.module.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(derive_seed(0, "audit", phase.name))
        parts = ALONE.add_up(phase.loss(batch.to(device) if hasattr(batch, "to") else batch))
    return {name: float(value) for name, value in parts.items()}


def _add(digest: _Hash, value: Any) -> None:
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    elif is_dataclass(value):
        for field in fields(value):
            digest.update(field.name.encode())
            _add(digest, getattr(value, field.name))
    elif value is None or isinstance(value, int | float | str):
        digest.update(repr(value).encode())
    else:
        raise TypeError(f"a batch holds a {type(value).__name__}, which has no digest")
