"""Protocols through which packages use each other without importing each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor


@runtime_checkable
class Scorer(Protocol):
    """A trained system, frozen for ranking."""

    num_items: int

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Scores the whole catalogue for each history; column j belongs to item number j + 1.

        Empty histories are answered by `inference.cold_start`; the scores of one are finite but
        meaningless.

        Shapes: items [B, L] int64 padded with 0 on the right, lengths [B] -> [B, N].
        """


@runtime_checkable
class ListScorer(Scorer, Protocol):
    """A scorer that finds the best items without scoring the others; `score` is exact, and slow."""

    list_size: int
    """Default number of items in a list."""

    def best(
        self, items: Tensor, lengths: Tensor, k: int, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the best `k` items outside `seen` with their scores, best first.

        Shorter lists are padded with item 0 and a score of minus infinity.

        Shapes: items [B, L], lengths [B], seen [B, S] item numbers, 0 where padded -> [B, k], [B, k].
        """

    def score_candidates(self, items: Tensor, lengths: Tensor, candidates: Tensor) -> Tensor:
        """Computes exact scores of each history's own candidates; padding scores minus infinity.

        Shapes: items [B, L], lengths [B], candidates [B, C] item numbers, 0 where padded -> [B, C].
        """

    def exact_scorer(self) -> Scorer:
        """Returns a scorer that computes all scores exactly and lists nothing."""

    def restrict_to(self, numbers: Tensor) -> Scorer:
        """Returns a scorer of these items alone; column j belongs to entry j. Histories may hold any item.

        Shapes: numbers [C] int64, each once.
        """


@runtime_checkable
class VectorScorer(Scorer, Protocol):
    """A scorer whose score is a dot product, so that rows can be searched without scoring them all."""

    item_vectors: Tensor
    """[N, D']"""

    def queries(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Returns one query vector for each history. Shapes: [B, L], [B] -> [B, D']."""


@dataclass(frozen=True)
class NewItems:
    """M items that a system was not trained on, or that have new descriptions."""

    item_ids: Sequence[str]
    items: pa.Table
    """Row j describes item j: the catalogue's columns."""
    vectors: Tensor | None = None
    """[M, E] embeddings of their texts, for systems that use them."""
    numbers: Sequence[int] = ()
    """Their item numbers in training, 0 for new items; empty if all are new."""


@dataclass(frozen=True)
class KnownItems:
    """K items with training events, on which a map from text can be fitted."""

    vectors: Tensor
    """[K, E] embeddings of their texts."""
    rows: Tensor
    """[K] int64, their rows in the item tables."""


@dataclass(frozen=True)
class NewRows:
    """Rows of new items, to be appended to the item tables."""

    tables: dict[str, Tensor]
    """[M, ...] each."""
    explained: dict[str, float] = field(default_factory=dict)
    """For tables that are inferred from text: the estimated share of their variance in new items that
    the text explains."""


RowsOf = Callable[[NewItems, "Mapping[str, Tensor]"], NewRows]
"""Makes the rows of new items, given the current tables."""


@runtime_checkable
class ExtendsCatalogue(Protocol):
    """A system that can recommend items that it was not trained on, based on their text.

    All its knowledge of items is in tables with one row an item; a new item is one more row. The class
    declares what new rows are made from (`System.new_items_by`).
    """

    def item_tables(self) -> dict[str, Tensor]:
        """Returns the tables; row j belongs to item number j + 1. Shapes: [N, ...] each."""

    def rows_of(self, known: Callable[[], KnownItems]) -> RowsOf:
        """Returns the function that makes rows of new items; calls `known` only to fit a map.

        Raises:
            ConfigError: the system uses no text in this configuration.
        """

    def scorer_over(self, tables: Mapping[str, Tensor]) -> Scorer:
        """Returns a scorer over longer tables, whose first rows are the system's own.

        Shapes: [N + M, ...] each.
        """


@runtime_checkable
class SplitsScore(Protocol):
    """A system whose score is a sum over views, each a range of the vectors' columns."""

    def view_columns(self) -> dict[str, slice]:
        """Returns the columns of each view by name; empty if there is only one view."""
