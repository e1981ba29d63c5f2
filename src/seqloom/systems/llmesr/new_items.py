"""Vectors of items that LLM-ESR was not trained on, from their text alone."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import torch
from torch import Tensor

from seqloom.core.protocols import NewItems, NewRows
from seqloom.nn.ridge import RidgeMap, fit_ridge
from seqloom.systems.llmesr.views import SemanticView

VECTORS = "vectors"
"""The name of the one item table: what a history's state is multiplied with."""


class InferredVectors:
    """[c_i ; s_i] of an item from its text embedding.

    The semantic half goes through the trained adapter, as for every item. The collaborative half of a
    new item is what items of such text have: a ridge regression from the text on the trained rows,
    fitted when it is first needed. An item with a number keeps its trained half.

    Source: the semantic half is LLM-ESR, eq. 2; the paper says nothing of new items.
    """

    def __init__(self, semantic: SemanticView, collaborative: Tensor | None) -> None:
        self._semantic = semantic
        self._table = None if collaborative is None else collaborative.detach()
        self._map: RidgeMap | None = None
        self._fitting = threading.Lock()

    @torch.inference_mode()
    def __call__(self, new: NewItems, tables: Mapping[str, Tensor]) -> NewRows:
        """See `RowsOf`."""
        assert new.vectors is not None
        text = new.vectors.to(self._semantic.text.device)
        semantic = self._semantic.project(text)
        if self._table is None:
            return NewRows({VECTORS: semantic})
        fitted = self._fitted(self._table)
        numbers = torch.tensor(new.numbers or [0] * len(text), device=text.device)
        trained = self._table[(numbers - 1).clamp(min=0)]
        halves = [torch.where(numbers[:, None] > 0, trained, fitted(text)), semantic]
        return NewRows({VECTORS: torch.cat(halves, 1)}, {"collaborative": fitted.explained})

    def _fitted(self, table: Tensor) -> RidgeMap:
        with self._fitting:
            if self._map is None:
                self._map = fit_ridge(self._semantic.text.detach(), table)
            return self._map
