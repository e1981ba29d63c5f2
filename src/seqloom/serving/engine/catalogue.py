"""The items that one model can rank now: those it was trained on, and what has changed since.

A change makes a new snapshot; batches under way keep theirs. Vectors lie in one matrix with room at its
end: a new item is a row written behind the last one, which no older snapshot reads. An item whose
text changed gets a new row, and its old one is never recommended again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from seqloom.core.protocols import GrowingScorer, Scorer
from seqloom.serving.store.base import LiveItem

_ROOM = 1024


@dataclass(frozen=True)
class Snapshot:
    """A catalogue at one moment."""

    scorer: Scorer
    ids: Sequence[str]
    """Entry j is the id of item number j + 1. It may be longer than the scorer's catalogue."""
    own: Mapping[str, int]
    """Numbers of the items of the training."""
    added: Mapping[str, int] = field(default_factory=dict)
    """Numbers of items that were put in or described anew; before `own`."""
    removed: frozenset[int] = frozenset()
    """Numbers that are never recommended."""
    columns: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    """[R] int64, `removed` as columns of the scores."""

    def number(self, item_id: str) -> int:
        """The item's number, 0 where it is unknown."""
        return self.added.get(item_id) or self.own.get(item_id, 0)

    def offers(self, item_id: str) -> bool:
        """Whether the item can be recommended."""
        number = self.number(item_id)
        return number > 0 and number not in self.removed


class ModelCatalogue:
    """The live catalogue of one model.

    `vectors_of` gives the vectors of items from their text (see `ExtendsCatalogue`); None where the
    model cannot take new items.
    """

    def __init__(
        self,
        scorer: Scorer,
        ids: Sequence[str],
        numbers: Mapping[str, int],
        vectors_of: Callable[[Tensor, Tensor], Tensor] | None,
    ) -> None:
        self._base = scorer
        self._ids = list(ids)
        self._vectors_of = vectors_of
        self._matrix: Tensor | None = None
        self._lock = threading.Lock()
        self.snapshot = Snapshot(scorer, self._ids, numbers)

    @property
    def grows(self) -> bool:
        """Whether new items can be recommended."""
        return self._vectors_of is not None

    def apply(self, items: Sequence[LiveItem], texts: Mapping[str, Tensor]) -> None:
        """Bring changes in: `texts` are the text embeddings [E] of those that have one, by id."""
        with self._lock:
            added, removed = dict(self.snapshot.added), set(self.snapshot.removed)
            rows: list[tuple[str, int]] = []
            for item in items:
                number = self.snapshot.number(item.item_id)
                if item.removed:
                    removed |= {number} - {0}
                elif self._vectors_of is not None and item.item_id in texts:
                    removed |= {number} - {0}
                    rows.append((item.item_id, self.snapshot.own.get(item.item_id, 0)))
                else:
                    removed -= {number}
            scorer = self.snapshot.scorer
            if rows:
                first = scorer.num_items
                scorer = self._grow(rows, texts)
                added.update({item: first + n for n, (item, _) in enumerate(rows, start=1)})
            columns = torch.tensor(sorted(removed), dtype=torch.int64) - 1
            self.snapshot = replace(
                self.snapshot,
                scorer=scorer,
                added=added,
                removed=frozenset(removed),
                columns=columns,
            )

    def _grow(self, rows: list[tuple[str, int]], texts: Mapping[str, Tensor]) -> Scorer:
        """Write the rows' vectors behind the last one; give a scorer that sees them."""
        assert isinstance(self._base, GrowingScorer)
        assert self._vectors_of is not None
        old = self.snapshot.scorer.num_items
        new = old + len(rows)
        vectors = self._vectors_of(
            torch.stack([texts[item] for item, _ in rows]),
            torch.tensor([number for _, number in rows]),
        )
        with torch.inference_mode():
            if self._matrix is None or len(self._matrix) < new:
                held = self._base.item_vectors if self._matrix is None else self._matrix[:old]
                room = new + max(_ROOM, new // 8)
                self._matrix = torch.empty(room, held.shape[1], dtype=held.dtype)
                self._matrix[:old] = held
            self._matrix[old:new] = vectors
        self._ids.extend(item for item, _ in rows)
        return self._base.with_item_vectors(self._matrix[:new])
