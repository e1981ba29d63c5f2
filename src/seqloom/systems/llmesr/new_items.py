"""Infers vectors of items that LLM-ESR was not trained on, from their texts."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import torch
from torch import Tensor

from seqloom.core.protocols import NewItems, NewRows
from seqloom.nn.ridge import RidgeMap, fit_ridge
from seqloom.systems.llmesr.recency_view import RecencyView
from seqloom.systems.llmesr.views import SemanticView
from seqloom.systems.texttower import TextTower

VECTORS = "vectors"
"""Name of the only item table, which a history's state is multiplied with."""


class InferredVectors:
    """Infers [c_i ; s_i] of an item from its text.

    The semantic half is the text as the view reads it, as for every item. The collaborative half of a new
    item is predicted by a ridge regression from texts to trained rows, which is fitted on first use: from
    text embeddings, or from semantic halves where the views learn apart. An item with a number keeps its
    trained half.

    Source: the semantic half is LLM-ESR, eq. 2; the paper does not cover new items.
    """

    def __init__(
        self, semantic: SemanticView | RecencyView | TextTower, collaborative: Tensor | None
    ) -> None:
        self._semantic = semantic
        self._table = None if collaborative is None else collaborative.detach()
        self._map: RidgeMap | None = None
        self._fitting = threading.Lock()

    @torch.inference_mode()
    def __call__(self, new: NewItems, tables: Mapping[str, Tensor]) -> NewRows:
        """Returns the rows of new items; see `RowsOf`."""
        semantic = self._semantic_rows(new)
        if self._table is None:
            return NewRows({VECTORS: semantic})
        texts = semantic
        if isinstance(self._semantic, SemanticView):
            assert new.vectors is not None
            texts = new.vectors.to(semantic.device)
        fitted = self._fit(self._table)
        numbers = torch.tensor(new.numbers or [0] * len(texts), device=texts.device)
        trained = self._table[(numbers - 1).clamp(min=0)]
        halves = [torch.where(numbers[:, None] > 0, trained, fitted(texts)), semantic]
        return NewRows({VECTORS: torch.cat(halves, 1)}, {"collaborative": fitted.explained})

    def _semantic_rows(self, new: NewItems) -> Tensor:
        """Returns the semantic half of new items. Shapes: -> [M, E]."""
        if isinstance(self._semantic, TextTower):
            return self._semantic.vectors_of(new.items)
        assert new.vectors is not None
        return self._semantic.project(new.vectors.to(self._semantic.text.device))

    def _fit(self, table: Tensor) -> RidgeMap:
        with self._fitting:
            if self._map is None:
                view = self._semantic
                texts = view.item_vectors() if isinstance(view, TextTower) else view.text
                self._map = fit_ridge(texts.detach(), table)
            return self._map
