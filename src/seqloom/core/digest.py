"""SHA-256 of training batches, so that two trainings can be compared batch by batch."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from seqloom.core.phase import Steps

if TYPE_CHECKING:
    from hashlib import _Hash


def steps_digest(steps: Steps) -> str:
    """Returns the SHA-256 of all batches of an epoch."""
    digest = hashlib.sha256()
    for step in range(len(steps)):
        _hash_value(digest, steps[step])
    return digest.hexdigest()


def _hash_value(digest: _Hash, value: Any) -> None:
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    elif is_dataclass(value):
        for field in fields(value):
            digest.update(field.name.encode())
            _hash_value(digest, getattr(value, field.name))
    elif value is None or isinstance(value, int | float | str):
        digest.update(repr(value).encode())
    else:
        raise TypeError(f"a batch holds a {type(value).__name__}, which has no digest")
