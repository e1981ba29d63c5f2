"""Rows of items that E4SRec was not trained on, from their text alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from seqloom.core.protocols import KnownItems, NewItems, NewRows
from seqloom.nn.ridge import RidgeMap, fit_ridge


class InferredRows:
    """ID embedding and head row of an item: linear maps of its text embedding.

    A map for each table is fitted on the items that have training events, when it is first needed. The
    language model is not touched.

    Source: none; the paper says nothing of new items.
    """

    def __init__(self, tables: Mapping[str, Tensor], known: Callable[[], KnownItems]) -> None:
        self._tables, self._known = dict(tables), known
        self._maps: dict[str, RidgeMap] = {}
        self._fitting = threading.Lock()

    @torch.inference_mode()
    def __call__(self, new: NewItems, tables: Mapping[str, Tensor]) -> NewRows:
        """See `RowsOf`."""
        assert new.vectors is not None
        maps = self._fitted()
        rows = {name: fitted(new.vectors) for name, fitted in maps.items()}
        return NewRows(
            {name: row.to(self._tables[name]) for name, row in rows.items()},
            {name: round(fitted.explained, 4) for name, fitted in maps.items()},
        )

    def _fitted(self) -> dict[str, RidgeMap]:
        with self._fitting:
            if not self._maps:
                known = self._known()
                self._maps = {
                    name: fit_ridge(known.vectors, table.cpu()[known.rows])
                    for name, table in self._tables.items()
                }
            return self._maps
