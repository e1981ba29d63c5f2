"""Infers rows of items that E4SRec was not trained on, from their texts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from seqloom.core.protocols import KnownItems, NewItems, NewRows
from seqloom.nn.ridge import RidgeMap, fit_ridge


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
