"""Random streams keyed by purpose, so that a resumed run draws the same numbers as an uninterrupted one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *keys: str | int) -> int:
    """Derives a 63-bit seed from `seed` and all keys, in order."""
    text = "\x1f".join([str(seed), *map(str, keys)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *keys: str | int) -> torch.Generator:
    """Returns a new CPU generator for (seed, keys): equal keys give equal draws."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, *keys))
