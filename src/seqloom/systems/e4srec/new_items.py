"""Infers rows of items that E4SRec was not trained on, from their texts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from seqloom.core.protocols import KnownItems, NewItems, NewRows
from seqloom.nn.ridge import RidgeMap, fit_ridge
from seqloom.systems.texttower import VECTORS, TextTower

IDS, HEAD = "ids", "head"
"""Names of the item tables; with words, that of the tower stands in place of the head."""


class InferredRows:
    """Infers ID embedding and head row of an item by linear maps of its text embedding.

    A map for each table is fitted on the items with training events, on first use. The language model
    stays unchanged.

    Source: none; the paper does not cover new items.
    """

    def __init__(self, tables: Mapping[str, Tensor], known: Callable[[], KnownItems]) -> None:
        self._tables, self._known = dict(tables), known
        self._maps: dict[str, RidgeMap] = {}
        self._fitting = threading.Lock()

    @torch.inference_mode()
    def __call__(self, new: NewItems, tables: Mapping[str, Tensor]) -> NewRows:
        """Returns the rows of new items; see `RowsOf`."""
        assert new.vectors is not None
        maps = self._fit()
        rows = {name: fitted(new.vectors) for name, fitted in maps.items()}
        return NewRows(
            {name: row.to(self._tables[name]) for name, row in rows.items()},
            {name: round(fitted.explained, 4) for name, fitted in maps.items()},
        )

    def _fit(self) -> dict[str, RidgeMap]:
        with self._fitting:
            if not self._maps:
                known = self._known()
                self._maps = {
                    name: fit_ridge(known.vectors, table.cpu()[known.rows])
                    for name, table in self._tables.items()
                }
            return self._maps


class RowsByWords:
    """Reads the text vector of an item, and infers its ID embedding from it.

    The map is a ridge regression from the text vectors of the training's items to their ID embeddings, fitted
    on first use. The language model stays unchanged.

    Source: none; the paper does not cover new items.
    """

    def __init__(self, tower: TextTower, ids: Tensor) -> None:
        self._tower, self._ids = tower, ids
        self._map: RidgeMap | None = None
        self._fitting = threading.Lock()

    @torch.inference_mode()
    def __call__(self, new: NewItems, tables: Mapping[str, Tensor]) -> NewRows:
        """Returns the rows of new items; see `RowsOf`."""
        vectors, fitted = self._tower.vectors_of(new.items), self._fit()
        rows = {IDS: fitted(vectors).to(self._ids), VECTORS: vectors}
        return NewRows(rows, {IDS: round(fitted.explained, 4)})

    def _fit(self) -> RidgeMap:
        with self._fitting:
            if self._map is None:
                self._map = fit_ridge(self._tower.item_vectors(), self._ids)
            return self._map
