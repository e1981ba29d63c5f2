"""A digest of what training is given: the batches of the first epoch of every phase."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from seqloom.systems.base import System, TrainingData

if TYPE_CHECKING:
    from hashlib import _Hash


def batch_digests(system: System[Any], data: TrainingData) -> dict[str, str]:
    """SHA-256 over the first epoch's batches of each phase, by the phase's name.

    The system is changed as training changes it between phases; use one that nobody needs.
    """
    system.reopen(data)
    found = {}
    for phase in system.phases(data):
        digest = hashlib.sha256()
        if phase.optimisation.epochs:
            steps = phase.steps(0)
            for step in range(len(steps)):
                _add(digest, steps[step])
        found[phase.name] = digest.hexdigest()
    return found


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
