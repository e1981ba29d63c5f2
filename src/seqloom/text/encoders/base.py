"""The protocol of text encoders, and checks of their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from seqloom.core.batching import padded_batches
from seqloom.core.errors import EmbeddingError

LONG = 512
"""Tokens of a text beyond which fewer texts are encoded together."""


class TextEncoder(Protocol):
    """Turns texts into vectors. Built by `build_encoder`."""

    name: str
    """The name given by the user."""
    truncated: int
    """Number of texts truncated at the encoder's limit so far (0 if the encoder cannot know it)."""
    chunk: int
    """Number of texts to encode at a time: enough to keep it busy, few enough to lose in a crash."""

    def provenance(self) -> dict[str, Any]:
        """Returns all that determines the vectors, as plain JSON values: equal provenance, equal vectors.

        Never contains a secret. Cheap: does not load the model.
        """

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encodes each text as one vector, on the CPU.

        Raises:
            EmbeddingError: the encoder failed.

        Shapes: B texts -> [B, E] float32.
        """


@runtime_checkable
class InteractiveEncoder(Protocol):
    """An encoder that several threads may wait for side by side, such as an endpoint."""

    def interactive(self) -> TextEncoder:
        """Returns an encoder of the same vectors for texts that somebody waits for."""


def check_vectors(vectors: Tensor, ids: Sequence[str], width: int | None = None) -> Tensor:
    """Checks that `vectors` can be embeddings of the texts of `ids`, and returns them.

    Raises:
        EmbeddingError: wrong number or width of rows, NaN, infinity or an all-zero row; the message names
            the id of the first such text.

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


def text_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Groups rows of texts to encode together: `batch_size` texts, fewer for more than 512 tokens.

    64 texts of 8,192 tokens would take 16 times the memory of 64 texts of 512.
    """
    return padded_batches(lengths, rows=batch_size, cells=batch_size * LONG)
