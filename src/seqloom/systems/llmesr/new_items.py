"""Vectors of items that LLM-ESR was not trained on, from their text alone."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.systems.llmesr.views import SemanticView

_PENALTIES = torch.logspace(-4, 4, 25, dtype=torch.float64)


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
            self._weight, self._bias = ridge_map(semantic.text.detach(), self._table)

    @torch.inference_mode()
    def __call__(self, text: Tensor, numbers: Tensor) -> Tensor:
        """Numbers are 0 for new items; others keep their trained row.

        Shapes: text [M, E], numbers [M] int64 -> [M, D'].
        """
        semantic = self._semantic.project(text)
        if self._table is None:
            return semantic
        inferred = text @ self._weight + self._bias
        trained = self._table[(numbers - 1).clamp(min=0)]
        return torch.cat([torch.where(numbers[:, None] > 0, trained, inferred), semantic], 1)


def ridge_map(text: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """The linear map from text to table rows, its penalty chosen by generalised cross-validation.

    Source: Golub, Heath & Wahba, Technometrics 1979.

    Shapes: text [N, E], table [N, D] -> weight [E, D], bias [D].
    """
    x, y = text.double(), table.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    rows = len(x)
    strength, axes = torch.linalg.eigh(x.t() @ x)
    strength = strength.clamp(min=0)
    along = axes.t() @ (x.t() @ y)  # [E, D]
    energy = along.square().sum(1)
    penalties = _PENALTIES.to(x.device) * strength.mean().clamp(min=1e-12)
    shrunk = strength + penalties[:, None]  # [P, E]
    residual = y.square().sum() - (energy * (2 / shrunk - strength / shrunk.square())).sum(1)
    freedom = (strength / shrunk).sum(1)
    # One degree of freedom is the mean; where none is left the fit says nothing.
    left = (rows - 1 - freedom).clamp(min=1e-9)
    best = int((residual.clamp(min=0) / left.square()).argmin())
    weight = axes @ (along / shrunk[best][:, None])
    return weight.to(table.dtype), (y_mean - x_mean @ weight).to(table.dtype)
