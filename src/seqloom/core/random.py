"""Random streams keyed by what they are for, so that a resumed run draws what it would have drawn."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *keys: str | int) -> int:
    """A 63-bit seed that depends on `seed` and on every key, in order."""
    text = "\x1f".join([str(seed), *map(str, keys)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *keys: str | int) -> torch.Generator:
    """A CPU generator of its own for (seed, keys): equal keys give equal draws."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, *keys))
