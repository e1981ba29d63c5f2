"""What a text encoder is, and the checks on what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from seqloom.core.errors import EmbeddingError


class TextEncoder(Protocol):
    """Turns texts into vectors. Built by `build_encoder`."""

    name: str
    """The name that the user gave."""
    truncated: int
    """Texts so far of which the end was cut off at the encoder's limit (0 where it cannot know)."""
    chunk: int
    """How many texts to give it at a time: enough to keep it busy, few enough to lose."""

    def provenance(self) -> dict[str, Any]:
        """What decides the vectors, as plain JSON values: equal provenance, equal vectors.

        Never holds a secret. Cheap: it loads no model.
        """

    def encode(self, texts: Sequence[str]) -> Tensor:
        """One vector for each text, on the CPU.

        Raises:
            EmbeddingError: the encoder failed.

        Shapes: B texts -> [B, E] float32.
        """


def check_vectors(vectors: Tensor, ids: Sequence[str], width: int | None = None) -> Tensor:
    """`vectors` if they can be embeddings of the texts of `ids`.

    Raises:
        EmbeddingError: wrong number or width of rows, NaN, infinity or an all-zero row; names the
            first text's id.

    Shapes: [B, E] -> [B, E].
    """
    if vectors.ndim != 2 or len(vectors) != len(ids) or vectors.shape[1] == 0:
        raise EmbeddingError(
            f"the encoder returned shape {tuple(vectors.shape)} for {len(ids)} texts "
            f"(the first is {ids[0]!r}); expected ({len(ids)}, width)"
        )
    if width is not None and vectors.shape[1] != width:
        raise EmbeddingError(
            f"the encoder returned width {vectors.shape[1]} for {ids[0]!r}, but {width} before"
        )
    finite = torch.isfinite(vectors).all(dim=1)
    if not finite.all():
        row = int((~finite).nonzero()[0])
        raise EmbeddingError(
            f"the encoder returned NaN or infinity for {ids[row]!r} "
            f"({int((~finite).sum())} of {len(ids)} texts of this batch)"
        )
    zero = (vectors == 0).all(dim=1)
    if zero.any():
        row = int(zero.nonzero()[0])
        raise EmbeddingError(
            f"the encoder returned an all-zero vector for {ids[row]!r} "
            f"({int(zero.sum())} of {len(ids)} texts of this batch)"
        )
    return vectors.float()


def by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Row numbers in batches of similar length, the longest first: memory runs out early or never.

    Rows of equal length keep their order, so that equal texts give equal batches.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
