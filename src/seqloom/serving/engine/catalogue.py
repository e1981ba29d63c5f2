"""The items that one model can rank now: those it was trained on, and later changes.

A change makes a new snapshot; batches under way keep theirs. The item tables of a system have room at
their ends: a new item is a row written behind the last one, which no older snapshot reads. An item whose
text changed gets a new row, and its old one is never recommended again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from seqloom.core.errors import SeqloomError
from seqloom.core.protocols import ExtendsCatalogue, NewItems, NewRows, Scorer
from seqloom.data.tie_keys import tie_keys
from seqloom.inference.ranker import Ranker
from seqloom.runs.ann_scorer import ApproximateScorer
from seqloom.runs.folder import Run
from seqloom.runs.new_items import NewItemReader
from seqloom.serving.engine.tables import GrowingTable
from seqloom.serving.store.base import LiveItem

_CALL_COST = 48
"""Padded positions that cost about as much as one more call of the encoder."""


@dataclass(frozen=True)
class Snapshot:
    """A catalogue at one moment."""

    ranker: Ranker
    """Ranks the items of this moment, without those that were taken out."""
    ids: Sequence[str]
    """Entry j is the id of item number j + 1. It may be longer than the scorer's catalogue."""
    own: Mapping[str, int]
    """Numbers of the items of the training."""
    added: Mapping[str, int] = field(default_factory=dict)
    """Numbers of items that were added or redescribed; these take precedence over `own`."""
    later: Sequence[tuple[str, Mapping[str, str]]] = ()
    """Ids and attributes of the items behind those of the training, in order. It may be longer than the
    scorer's catalogue."""
    removed: frozenset[int] = frozenset()
    """Numbers that are never recommended."""

    @property
    def scorer(self) -> Scorer:
        """Scores the items of this moment."""
        return self.ranker.scorer

    def number(self, item_id: str) -> int:
        """Returns the item's number, 0 where it is unknown."""
        return self.added.get(item_id) or self.own.get(item_id, 0)

    def offers(self, item_id: str) -> bool:
        """Returns whether the item can be recommended."""
        number = self.number(item_id)
        return number > 0 and number not in self.removed


class ModelCatalogue:
    """The live catalogue of one run. `reader` makes rows of new items; None where the system cannot.

    `scorer` is the run's, or one that searches an index of its items; new items stand beside the index.
    """

    def __init__(self, run: Run, reader: NewItemReader | None, scorer: Scorer) -> None:
        self._run = run
        self._reader = reader
        self._ids = list(run.item_ids)
        self._later: list[tuple[str, Mapping[str, str]]] = []
        self._tables: dict[str, GrowingTable] = {}
        self._lock = threading.Lock()
        ranker = Ranker(
            scorer,
            device=run.device,
            max_len=run.system.max_len,
            keys=run.tie_keys,
            popularity=run.training_counts,
            call_cost=_CALL_COST,
        )
        self.snapshot = Snapshot(ranker, self._ids, run.item_numbers, later=self._later)
        self.refused: dict[str, str] = {}
        """Why an added item has no place in the catalogue, by id."""

    def apply(self, items: Sequence[LiveItem]) -> None:
        """Applies changes. An item that cannot be read is refused without holding up the others."""
        with self._lock:
            try:
                self._bring_in(items)
            except SeqloomError:
                for item in items:
                    try:
                        self._bring_in([item])
                    except SeqloomError as error:
                        self.refused[item.item_id] = str(error)

    def rehearse(
        self, item_id: str, attributes: Mapping[str, str], most: int
    ) -> tuple[Snapshot, Scorer | None]:
        """Returns the catalogue of this moment and a scorer with one more item, which nothing else reads.

        The scorer is None where the catalogue has more than `most` items. The run must take new items.

        Raises:
            SeqloomError: the text cannot be embedded.
        """
        system = self._run.system
        assert isinstance(system, ExtendsCatalogue)
        with self._lock:
            snapshot = self.snapshot
            held = snapshot.scorer.num_items
            if held > most:
                return snapshot, None
            rows = self._rows([LiveItem(item_id, dict(attributes))])
            tables = {
                name: torch.cat([table.first(held), rows.tables[name].to(table.first(1))])
                for name, table in self._tables.items()
            }
        return snapshot, system.scorer_over(tables)

    def _bring_in(self, items: Sequence[LiveItem]) -> None:
        """Applies all changes or, where it raises, none."""
        added, removed = dict(self.snapshot.added), set(self.snapshot.removed)
        ranker = self.snapshot.ranker
        taken = [item for item in items if not item.removed and self._takes(item)]
        if taken:
            first = ranker.scorer.num_items
            scorer = self._grow(self._rows(taken))
            new = [item.item_id for item in taken]
            self._ids.extend(new)
            self._later.extend((item.item_id, item.attributes) for item in taken)
            keys = ranker.keys
            ranker = replace(
                ranker,
                scorer=scorer,
                keys=None if keys is None else torch.cat([keys, tie_keys(new)]),
            )
            added |= {item.item_id: first + n for n, item in enumerate(taken, start=1)}
        rewritten = {item.item_id for item in taken}
        for item in items:
            number = self.snapshot.number(item.item_id)
            if item.removed or item.item_id in rewritten:
                removed |= {number} - {0}
            else:
                removed -= {number}
            self.refused.pop(item.item_id, None)
        self.snapshot = replace(
            self.snapshot,
            ranker=replace(ranker, removed=torch.tensor(sorted(removed), dtype=torch.int64)),
            added=added,
            removed=frozenset(removed),
        )

    def _takes(self, item: LiveItem) -> bool:
        """Returns whether the item gets a row; a trained item only where the system reads its new text."""
        known = item.item_id in self.snapshot.own
        return self._reader is not None and (not known or self._run.system.redescribes_items)

    def _rows(self, items: Sequence[LiveItem]) -> NewRows:
        """Returns the items' rows in every table, from their stored embeddings where they exist."""
        reader = self._reader
        assert reader is not None
        ids = [item.item_id for item in items]
        table = reader.table(ids, [item.attributes for item in items])
        vectors = None
        if reader.text is not None:
            vectors = torch.stack(
                [
                    reader.text.parse(stored) if stored else reader.text.embed(table.slice(n, 1))[0]
                    for n, item in enumerate(items)
                    for stored in [item.vectors.get(reader.text.key)]
                ]
            )
        if not self._tables:
            tables = self._run.item_tables.items()
            self._tables = {name: GrowingTable(start) for name, start in tables}
        held = self.snapshot.scorer.num_items
        now = {name: table.first(held) for name, table in self._tables.items()}
        numbers = [self.snapshot.own.get(item_id, 0) for item_id in ids]
        return reader.rows_of(NewItems(ids, table, vectors, numbers), now)

    def _grow(self, rows: NewRows) -> Scorer:
        """Writes the rows behind the last ones; returns a scorer that reads them."""
        system = self._run.system
        assert isinstance(system, ExtendsCatalogue)
        old = self.snapshot.scorer.num_items
        longer = system.scorer_over(
            {name: table.put(old, rows.tables[name]) for name, table in self._tables.items()}
        )
        now = self.snapshot.scorer
        return now.extend_to(longer) if isinstance(now, ApproximateScorer) else longer
