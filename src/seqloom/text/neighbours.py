"""The most similar rows of a matrix: cosine top-k, exact tile by tile, or approximate by an index."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.core.progress import SILENT, Progress
from seqloom.text.similarity import SimilaritySearch

_TILE = 2048
"""Rows and columns of a tile: its 16 MiB of scores stay in the last cache."""
_NORMALISED_AT_ONCE = 16_384

MakeSearch = Callable[[Tensor, Tensor, Tensor, int], SimilaritySearch]
"""Takes what `SimilaritySearch` takes."""


def top_similar(
    matrix: Tensor,
    k: int,
    tile: int = _TILE,
    progress: Progress = SILENT,
    of: Tensor | None = None,
    search: MakeSearch = SimilaritySearch,
) -> Tensor:
    """For each row, the `k` other rows of highest cosine similarity, the most similar first.

    Exact, unless `search` is not. Ties go to the lower row number. Rows of zeros have no direction:
    they are similar to nobody, so they are chosen only where fewer than `k` others are left, and their
    own neighbours are the lowest-numbered rows. A product of two rows serves both, so all rows cost
    half of the whole matrix product. Beside the matrix, a copy of it and about 12 (k + 8) bytes a row
    are held.

    Args:
        tile: rows and columns compared at a time.
        of: row numbers [R] whose neighbours are wanted; all by default.
        search: what finds them among the rows that have a direction.

    Raises:
        ConfigError: `k` is not between 1 and U - 1, or a value is not finite.

    Shapes: matrix [U, E] -> [U, k] int64, or [R, k].
    """
    rows = len(matrix)
    if not 1 <= k <= rows - 1:
        raise ConfigError(f"cannot find {k} similar rows among {rows}; 1 to {rows - 1} are allowed")
    unit, norms = _normalised(matrix)
    wanted = torch.arange(rows) if of is None else of
    zero = norms == 0
    if not zero.any():
        among = search(matrix, unit, norms, tile)
        return among.all(k, progress) if of is None else among.some(of, k, progress)
    found = _without_direction(wanted, zero, k)
    directed = torch.nonzero(~zero).flatten()
    asked = torch.nonzero(~zero[wanted]).flatten()  # places in `wanted`
    near = max(0, min(k, len(directed) - 1))
    if len(asked):
        found[asked, near:] = torch.nonzero(zero).flatten()[: k - near]
    if len(asked) and near:
        among = search(matrix[directed], unit[directed], norms[directed], tile)
        number = (~zero).cumsum(0) - 1  # among those with a direction
        found[asked, :near] = directed[among.some(number[wanted[asked]], near, progress)]
    return found


def cosines(matrix: Tensor, own: Tensor, columns: Tensor) -> Tensor:
    """Of each row of `own` with its columns; -1 where one of the two is a row of zeros.

    Shapes: matrix [U, E], own [R], columns [R, C] -> [R, C] float64.
    """
    left, right = matrix[own].double(), matrix[columns].double()  # [R, E], [R, C, E]
    product = torch.einsum("re,rce->rc", left, right)
    lengths = left.norm(dim=1)[:, None] * right.norm(dim=2)
    return torch.where(lengths > 0, product / lengths, -1.0)


def _without_direction(wanted: Tensor, zero: Tensor, k: int) -> Tensor:
    """Neighbours of rows of zeros: the first other rows, those with a direction before the rest.

    Shapes: wanted [R], zero [U] -> [R, k], right for rows of zeros alone.
    """
    order = torch.argsort(zero, stable=True)[: k + 1].expand(len(wanted), -1)
    keep = order != wanted[:, None]
    keep &= keep.cumsum(1) <= k
    return order[keep].view(len(wanted), k)


def _normalised(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Unit rows (rows of zeros stay) and the lengths that they had; in blocks.

    Shapes: [U, E] -> [U, E] float32, [U] float64.
    """
    unit = torch.empty(matrix.shape, dtype=torch.float32)
    norms = torch.empty(len(matrix), dtype=torch.float64)
    for start in range(0, len(matrix), _NORMALISED_AT_ONCE):
        rows = slice(start, start + _NORMALISED_AT_ONCE)
        part = matrix[rows].double()
        if not torch.isfinite(part).all():
            raise ConfigError("cannot find similar rows: the matrix holds NaN or infinity")
        norms[rows] = part.norm(dim=1)
        unit[rows] = part / torch.where(norms[rows] > 0, norms[rows], 1.0)[:, None]
    return unit, norms
