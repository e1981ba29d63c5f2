"""Vectors of items that LLM-ESR was not trained on, from their text alone."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.nn.ridge import fit_ridge
from seqloom.systems.llmesr.views import SemanticView


class NewItems:
    """[c_i ; s_i] of an item from its text embedding.

    The semantic half goes through the trained adapter, as for every item. The collaborative half of a
    new item is what items of such text have: a ridge regression from the text on the trained rows.

    Source: the semantic half is LLM-ESR, eq. 2; the paper says nothing of new items.
    """

    def __init__(self, semantic: SemanticView, collaborative: Tensor | None) -> None:
        self._semantic = semantic
        self._table = None if collaborative is None else collaborative.detach()
        if self._table is not None:
            self._map = fit_ridge(semantic.text.detach(), self._table)

    @torch.inference_mode()
    def __call__(self, text: Tensor, numbers: Tensor) -> Tensor:
        """Numbers are 0 for new items; others keep their trained row.

        Shapes: text [M, E], numbers [M] int64 -> [M, D'].
        """
        semantic = self._semantic.project(text)
        if self._table is None:
            return semantic
        inferred = self._map(text)
        trained = self._table[(numbers - 1).clamp(min=0)]
        return torch.cat([torch.where(numbers[:, None] > 0, trained, inferred), semantic], 1)
