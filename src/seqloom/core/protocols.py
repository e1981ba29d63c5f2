"""What the layers know of each other without importing each other."""

from __future__ import annotations

from collections.abc import Callable
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
class ListScorer(Scorer, Protocol):
    """A scorer that finds the best items without scoring the others; `score` is exact, and slow."""

    list_size: int
    """How many items it lists if not asked for more."""

    def best(
        self, items: Tensor, lengths: Tensor, k: int, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The best `k` items that are not among `seen`, with their scores, best first.

        Where fewer are found, the rest is item 0 with a score of minus infinity.

        Shapes: items [B, L], lengths [B], seen [B, S] item numbers, 0 where padded -> [B, k], [B, k].
        """

    def exact(self) -> Scorer:
        """The same scorer, to be asked for all scores alone."""


@runtime_checkable
class VectorScorer(Scorer, Protocol):
    """A scorer whose score is a dot product, so that rows can be searched without scoring them all."""

    item_vectors: Tensor
    """[N, D']"""

    def queries(self, items: Tensor, lengths: Tensor) -> Tensor:
        """One vector for each history. Shapes: [B, L], [B] -> [B, D']."""


@runtime_checkable
class GrowingScorer(VectorScorer, Protocol):
    """A vector scorer whose catalogue can be exchanged for a longer one."""

    def with_item_vectors(self, item_vectors: Tensor) -> VectorScorer:
        """The same scorer over other item vectors, the first rows those of its own items.

        Shapes: item_vectors [N + M, D'].
        """


@runtime_checkable
class ExtendsCatalogue(Protocol):
    """A system that can score an item it was not trained on, given the item's text embedding."""

    def item_vector_map(self) -> Callable[[Tensor, Tensor], Tensor]:
        """A function from text embeddings [M, E] and item numbers [M] (0: new) to vectors [M, D'].

        An item with a number keeps what training learnt of it beside its text.

        Raises:
            ConfigError: the system's configuration leaves it no text to go by.
        """


@runtime_checkable
class SplitsScore(Protocol):
    """A system whose score is a sum over views, each a range of the vectors' columns."""

    def view_columns(self) -> dict[str, slice]:
        """The columns of each view by its name; empty where there is one view only."""
