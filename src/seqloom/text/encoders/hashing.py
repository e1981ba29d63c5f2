"""Encodes texts as bags of hashed words: needs no model and can be checked by hand."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

_WORD = re.compile(r"\w+")


class HashEncoder:
    """Counts each lower-case word in the cell `blake2b(word) mod width`, then normalizes to length one.

    For tests and for work without a model. Only texts that share words are similar. A text without
    letters or digits counts as one word.
    """

    def __init__(self, width: int = 256) -> None:
        self.name = f"hash:{width}"
        self.width = width
        self.truncated = 0
        self.chunk = 4096

    def provenance(self) -> dict[str, Any]:
        """See `TextEncoder`."""
        return {"kind": "hash", "width": self.width}

    def encode(self, texts: Sequence[str]) -> Tensor:
        """See `TextEncoder`.

        Shapes: B texts -> [B, E] float32.
        """
        counts = torch.zeros(len(texts), self.width)
        for row, text in enumerate(texts):
            for word in _WORD.findall(text.lower()) or [text]:
                counts[row, word_cell(word, self.width)] += 1
        return counts / counts.norm(dim=1, keepdim=True)


@lru_cache(maxsize=1 << 16)
def word_cell(word: str, width: int) -> int:
    """Returns the cell that counts `word`."""
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % width
