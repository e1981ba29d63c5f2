"""Scores of all items by dot products, with exact ties."""

from __future__ import annotations

import torch
from torch import Tensor

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes of a number -> the integer that holds its bits."""
_BLOCK = 65_536
_COLUMNS = 8
"""Columns by which rows that may be equal are found."""


class ItemProduct:
    """Multiplies queries with item vectors; equal vectors have equal scores, to the last bit.

    A product of matrices sums in another order at the edge of a block on some processors. Items with one
    vector, such as those of one text, would then tie or not by their place in the catalogue.
    """

    def __init__(self, vectors: Tensor) -> None:
        """`vectors` [N, D] must not change afterwards."""
        self._vectors = vectors
        self._repeated, self._first = equal_rows(vectors)

    def __call__(self, queries: Tensor) -> Tensor:
        """Returns the score of every item. Shapes: [B, D] -> [B, N]."""
        scores = queries @ self._vectors.t()
        if len(self._repeated):
            scores[:, self._repeated] = scores[:, self._first]
        return scores


@torch.no_grad()
def equal_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the rows that equal an earlier one, ascending, and the first row that each of them equals.

    Shapes: matrix [N, D] of floating point -> two of [R] int64.
    """
    # Few rows share some of their columns, so whole rows are compared for these alone.
    some = matrix[:, :: max(1, -(-matrix.shape[1] // _COLUMNS))]
    _, group, sizes = _sums(some).unique(return_inverse=True, return_counts=True)
    rows = torch.nonzero(sizes[group] > 1).flatten()
    _, group = torch.cat([_sums(matrix[part]) for part in rows.split(_BLOCK)]).unique(
        return_inverse=True
    )
    first = rows.new_full((len(rows),), len(matrix)).scatter_reduce_(0, group, rows, "amin")[group]
    rows, first = rows[first != rows], first[first != rows]
    parts = zip(rows.split(_BLOCK), first.split(_BLOCK), strict=True)
    equal = torch.cat([(matrix[a] == matrix[b]).all(1) for a, b in parts])
    return rows[equal], first[equal]


def _sums(matrix: Tensor) -> Tensor:
    """Returns a number for each row, equal for equal rows; others rarely have it. Shapes: [N, D] -> [N]."""
    draw = torch.Generator().manual_seed(0)
    factors = torch.randint(-(1 << 62), 1 << 62, matrix.shape[1:], generator=draw)
    factors = factors.to(matrix.device)
    sums = []
    for block in matrix.split(_BLOCK):
        # Adding 0 makes -0 equal to 0 in its bits too. Sums of integers have one value in any order.
        bits = (block + 0.0).contiguous().view(_BITS[matrix.element_size()])
        sums.append((bits.long() * factors).sum(1))
    return torch.cat(sums)
