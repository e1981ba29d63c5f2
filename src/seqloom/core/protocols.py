"""Protocols through which packages use each other without importing each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from seqloom.core.progress import SILENT, Progress

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor, nn


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

    def score_queries(self, queries: Tensor) -> Tensor:
        """Scores the catalogue; items of equal vectors score alike. Shapes: [B, D'] -> [B, N]."""


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
        """The columns of each view by its name; empty where there is one view only."""


@dataclass(frozen=True)
class NamingStatistics:
    """How the textual IDs of a catalogue came about, in numbers of items."""

    greedy: int
    """Items that kept the generator's first choice."""
    diverse: int
    """Items named by a diverse group."""
    extended: int
    """Items whose ID needed a further word to be unique."""


@runtime_checkable
class NamesItems(Protocol):
    """A system that names items by words of their texts, and recommends by writing a name.

    IDs are rows of output numbers: the words, an end mark, then padding. Row i of `ids` is that of item
    number i; row 0 is padding.
    """

    ids: Tensor
    """[N + 1, T] IDs of the catalogue."""

    @property
    def max_len(self) -> int | None:
        """The longest history that a prompt holds; None for no limit."""

    @property
    def ids_file(self) -> str | None:
        """The file that the present IDs were read from; None if the generator made them."""

    @property
    def named_from(self) -> str:
        """What the IDs of the catalogue depend on, in words."""

    @property
    def start_from(self) -> str | None:
        """The run that training continued; None if it started from fresh or pretrained models."""

    @property
    def num_templates(self) -> int:
        """The number of prompt templates of the recommender."""

    def texts_of(self, items: pa.Table) -> list[str]:
        """Returns the text that the generator reads of each row of `items`."""

    def new_ids(
        self, texts: Sequence[str], item_ids: Sequence[str], progress: Progress = SILENT
    ) -> tuple[Tensor, NamingStatistics]:
        """Names the items of another catalogue with the present generator.

        Shapes: M texts, M item ids -> [M, T].
        """

    def remake_ids(
        self, items: pa.Table, item_ids: Sequence[str], progress: Progress = SILENT
    ) -> Tensor:
        """Names the training catalogue again, as the present generator does in a training.

        Shapes: N items -> [N, T].
        """

    def words(self, ids: Tensor | None = None, texts: Sequence[str] = ()) -> list[str]:
        """Writes IDs out, by default those of the catalogue.

        Args:
            texts: the item texts that `new_ids` was given, for IDs of another catalogue.

        Shapes: ids [M, T] -> M texts.
        """

    def scorer_of_ids(
        self, ids: Tensor, recommender: Any = None, items: pa.Table | None = None
    ) -> Scorer:
        """Returns a scorer of a catalogue with these IDs, by another recommender if one is given.

        With `items`, the texts of that catalogue, scores that read texts without IDs take part.

        Shapes: ids [M, T].
        """

    def starting_recommender(self) -> nn.Module:
        """Makes the recommender that training started with again.

        Raises:
            ArtefactError: the run `start_from` can no longer be read.
        """

    def templates_match_source(self) -> bool:
        """Returns whether the prompt templates equal those of their file, or of the run `start_from`.

        Raises:
            SeqloomError: that file or run can no longer be read.
        """

    def prompt_tokens(self, items: Tensor, templates: Tensor) -> list[list[int]]:
        """Returns the tokens that the recommender reads of each history.

        Shapes: items [B, L] padded with 0 on the right, templates [B] -> B rows.
        """

    def spell_prompt(self, items: Sequence[int], template: int) -> list[int]:
        """Writes one prompt token by token, without tensors: what `prompt_tokens` is checked against."""


class ItemVectorSource(Protocol):
    """The run whose item vectors a system starts from."""

    @property
    def run(self) -> str | None:
        """Folder of a trained run; None to train one of `system` first."""

    @property
    def system(self) -> str:
        """Name of the system to train where there is no run."""

    @property
    def config(self) -> dict[str, Any]:
        """Configuration of the system to train."""


@runtime_checkable
class TakesItemVectors(Protocol):
    """A configuration of a system that starts from the item vectors of another run."""

    @property
    def item_vector_source(self) -> ItemVectorSource:
        """Where the vectors come from."""


@runtime_checkable
class CombinesRuns(Protocol):
    """A configuration of a system that is made of trained runs."""

    @property
    def runs(self) -> Sequence[str]:
        """Folders of the runs."""


@runtime_checkable
class ReadsEmbedding(Protocol):
    """A configuration of a system that reads a text embedding of the data set."""

    @property
    def text(self) -> str | None:
        """Name of the embedding; None for the data set's default."""


@runtime_checkable
class ContinuesRun(Protocol):
    """A configuration of a system that can start from the weights of a trained run."""

    @property
    def start_from(self) -> str | None:
        """Folder of the run; None to start without one."""
