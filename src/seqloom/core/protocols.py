"""What the layers know of each other without importing each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Scorer(Protocol):
    """A trained system, frozen for ranking."""

    num_items: int

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Score the whole catalogue for each history; column j belongs to item number j + 1.

        Shapes: items [B, L] int64 padded with 0 on the right, lengths [B] -> [B, N].
        """


@runtime_checkable
class VectorScorer(Scorer, Protocol):
    """A scorer whose score is a dot product, so that rows can be searched without scoring them all."""

    item_vectors: Tensor
    """[N, D']"""

    def queries(self, items: Tensor, lengths: Tensor) -> Tensor:
        """One vector for each history. Shapes: [B, L], [B] -> [B, D']."""
