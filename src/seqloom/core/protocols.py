"""What the layers know of each other without importing each other."""

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
        """Score the whole catalogue for each history; column j belongs to item number j + 1.

        Empty histories are answered elsewhere (`inference.cold_start`); what this says of one is
        finite and means nothing.

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

    def score_candidates(self, items: Tensor, lengths: Tensor, candidates: Tensor) -> Tensor:
        """The exact scores of each history's own candidates alone; minus infinity where there is none.

        Shapes: items [B, L], lengths [B], candidates [B, C] item numbers, 0 where padded -> [B, C].
        """

    def exact_scorer(self) -> Scorer:
        """The same scorer, to be asked for all scores alone."""

    def restrict_to(self, numbers: Tensor) -> Scorer:
        """A scorer of these items alone; column j belongs to entry j. Histories may hold any item.

        Shapes: numbers [C] int64, each once.
        """


@runtime_checkable
class VectorScorer(Scorer, Protocol):
    """A scorer whose score is a dot product, so that rows can be searched without scoring them all."""

    item_vectors: Tensor
    """[N, D']"""

    def queries(self, items: Tensor, lengths: Tensor) -> Tensor:
        """One vector for each history. Shapes: [B, L], [B] -> [B, D']."""


@dataclass(frozen=True)
class NewItems:
    """M items that a system was not trained on, or that are described anew."""

    item_ids: Sequence[str]
    items: pa.Table
    """Row j describes item j: the catalogue's columns."""
    vectors: Tensor | None = None
    """[M, E] embeddings of their texts, for systems that go by them."""
    numbers: Sequence[int] = ()
    """Numbers that they have in the training, 0 for new ones; empty: all are new."""


@dataclass(frozen=True)
class KnownItems:
    """K items that have training events: what a map from text can be fitted on."""

    vectors: Tensor
    """[K, E] embeddings of their texts."""
    rows: Tensor
    """[K] int64, their rows in the item tables."""


@dataclass(frozen=True)
class NewRows:
    """Rows of new items, to be put behind the last ones."""

    tables: dict[str, Tensor]
    """[M, ...] each."""
    explained: dict[str, float] = field(default_factory=dict)
    """For tables that are inferred from text: the estimated share of their variance in new items that
    the text explains."""


RowsOf = Callable[[NewItems, "Mapping[str, Tensor]"], NewRows]
"""Rows of new items, given the tables as they are now."""


@runtime_checkable
class ExtendsCatalogue(Protocol):
    """A system that can recommend items that it was not trained on, going by their text.

    What it knows of items stands in tables with one row an item, and a new item is one more row. Its class
    says what it goes by (`System.new_items_by`).
    """

    def item_tables(self) -> dict[str, Tensor]:
        """The tables, row j of item number j + 1. Shapes: [N, ...] each."""

    def rows_of(self, known: Callable[[], KnownItems]) -> RowsOf:
        """What gives new items their rows. `known` is called if and when a map has to be fitted.

        Raises:
            ConfigError: the configuration leaves the system no text to go by.
        """

    def scorer_over(self, tables: Mapping[str, Tensor]) -> Scorer:
        """A scorer for longer tables, whose first rows are the system's own. The system stays as it is.

        Shapes: [N + M, ...] each.
        """


@runtime_checkable
class SplitsScore(Protocol):
    """A system whose score is a sum over views, each a range of the vectors' columns."""

    def view_columns(self) -> dict[str, slice]:
        """The columns of each view by its name; empty where there is one view only."""
