"""Keeps the top k columns of each row while scores are computed tile by tile."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_MOST_INSERTED = 1 / 8
"""If more than this share of a tile passes the threshold, its own top k is computed first."""


class RunningTopK:
    """Keeps the `keep` highest scores of each row and their columns, best first.

    A tile is compared with each row's lowest kept score, and only higher scores are merged: few, after the
    first tiles. Of equal scores some may be dropped; a caller that needs all ties can see that the lowest
    kept score is one of them.
    """

    def __init__(self, rows: int, keep: int) -> None:
        self.scores = torch.full((rows, keep), -torch.inf)
        self.columns = torch.zeros(rows, keep, dtype=torch.int32)

    def take(self, scores: Tensor, first_row: int, first_column: int) -> None:
        """Merges a tile. Shapes: scores [b, c], contiguous."""
        lowest = self.scores[first_row : first_row + len(scores), -1]
        self._take(scores, scores > lowest[:, None], first_row, first_column)

    def take_transposed(self, scores: Tensor, first_row: int, first_column: int) -> None:
        """Merges a tile whose columns are rows of this table. Shapes: scores [c, b], contiguous."""
        lowest = self.scores[first_row : first_row + scores.shape[1], -1]
        passed = scores > lowest
        if _many(passed):
            self._take(scores.t().contiguous(), passed.t(), first_row, first_column)
            return
        at = torch.from_numpy(np.flatnonzero(passed.numpy()))
        columns, rows = at // scores.shape[1], at % scores.shape[1]
        rows, order = rows.sort(stable=True)
        values = scores.view(-1)[at[order]]
        self._insert(rows + first_row, columns[order] + first_column, values)

    def _take(self, scores: Tensor, passed: Tensor, first_row: int, first_column: int) -> None:
        if _many(passed):
            values, columns = scores.topk(min(self.scores.shape[1], scores.shape[1]), dim=1)
            tile = slice(first_row, first_row + len(scores))
            self._merge(tile, values, columns + first_column)
            return
        at = torch.from_numpy(np.flatnonzero(passed.numpy()))
        rows, columns = at // scores.shape[1], at % scores.shape[1]
        self._insert(rows + first_row, columns + first_column, scores.view(-1)[at])

    def _insert(self, rows: Tensor, columns: Tensor, values: Tensor) -> None:
        """Merges single scores. Shapes: three of [n], rows ascending."""
        if not len(rows):
            return
        hit, row, counts = rows.unique_consecutive(return_inverse=True, return_counts=True)
        place = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[row]
        shape = (len(hit), int(counts.max()))
        new_values = torch.full(shape, -torch.inf)
        new_columns = torch.zeros(shape, dtype=torch.int64)
        new_values[row, place] = values
        new_columns[row, place] = columns
        self._merge(hit, new_values, new_columns)

    def _merge(self, rows: Tensor | slice, values: Tensor, columns: Tensor) -> None:
        """Merges candidates of whole rows. Shapes: values and columns [rows, n]."""
        values = torch.cat([self.scores[rows], values], 1)
        columns = torch.cat([self.columns[rows], columns.int()], 1)
        best, at = values.topk(self.scores.shape[1], dim=1)
        self.scores[rows] = best
        self.columns[rows] = columns.gather(1, at)


def _many(passed: Tensor) -> bool:
    return int(passed.count_nonzero()) > _MOST_INSERTED * passed.numel()
