"""Finds the most similar rows of a matrix by cosine: exactly, tile by tile, or with an approximate index."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.core.progress import SILENT, Progress
from seqloom.text.similarity import SimilaritySearch

_TILE = 2048
"""Rows and columns of a tile: its 16 MiB of scores fit in the last-level cache."""
_NORMALISED_AT_ONCE = 16_384

MakeSearch = Callable[[Tensor, Tensor, Tensor, int], SimilaritySearch]
"""Builds a search from the arguments of `SimilaritySearch`."""


def top_similar(
    matrix: Tensor,
    k: int,
    tile: int = _TILE,
    progress: Progress = SILENT,
    of: Tensor | None = None,
    search: MakeSearch = SimilaritySearch,
) -> Tensor:
    """Finds, for each row, the `k` other rows of highest cosine similarity, the most similar first.

    Exact, unless `search` is approximate. Ties go to the lower row number. Rows of zeros have no
    direction: they are chosen only where fewer than `k` other rows are left, and their own neighbours are
    the rows with the lowest numbers. The product of two rows serves both, so searching for all rows costs
    half of the whole matrix product. Needs memory for a copy of the matrix and about 12 (k + 8) bytes per
    row.

    Args:
        tile: rows and columns compared at a time.
        of: row numbers [R] to search for; all by default.
        search: builds the search over the rows that have a direction.

    Raises:
        ConfigError: `k` is not between 1 and U - 1, or a value is not finite.

    Shapes: matrix [U, E] -> [U, k] int64, or [R, k].
    """
    rows = len(matrix)
    if not 1 <= k <= rows - 1:
        raise ConfigError(f"cannot find {k} similar rows of {rows}; 1 to {rows - 1} are allowed")
    unit, norms = _normalised(matrix)
    queries = torch.arange(rows) if of is None else of
    zero = norms == 0
    if not zero.any():
        searcher = search(matrix, unit, norms, tile)
        return searcher.all(k, progress) if of is None else searcher.some(of, k, progress)
    neighbours = _without_direction(queries, zero, k)
    directed = torch.nonzero(~zero).flatten()
    places = torch.nonzero(~zero[queries]).flatten()  # positions in `queries`
    near = max(0, min(k, len(directed) - 1))
    if len(places):
        neighbours[places, near:] = torch.nonzero(zero).flatten()[: k - near]
    if len(places) and near:
        searcher = search(matrix[directed], unit[directed], norms[directed], tile)
        number = (~zero).cumsum(0) - 1  # numbers of the rows with a direction
        neighbours[places, :near] = directed[searcher.some(number[queries[places]], near, progress)]
    return neighbours


def cosines(matrix: Tensor, own: Tensor, columns: Tensor) -> Tensor:
    """Computes the cosine of each row of `own` with its columns; -1 where either is a row of zeros.

    Shapes: matrix [U, E], own [R], columns [R, C] -> [R, C] float64.
    """
    left, right = matrix[own].double(), matrix[columns].double()  # [R, E], [R, C, E]
    product = torch.einsum("re,rce->rc", left, right)
    lengths = left.norm(dim=1)[:, None] * right.norm(dim=2)
    return torch.where(lengths > 0, product / lengths, -1.0)


def _without_direction(queries: Tensor, zero: Tensor, k: int) -> Tensor:
    """Returns the neighbours of rows of zeros: the first other rows, those with a direction first.

    Shapes: queries [R], zero [U] -> [R, k], right for rows of zeros alone.
    """
    order = torch.argsort(zero, stable=True)[: k + 1].expand(len(queries), -1)
    keep = order != queries[:, None]
    keep &= keep.cumsum(1) <= k
    return order[keep].view(len(queries), k)


def _normalised(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Normalizes rows to unit length (rows of zeros stay) and returns their former lengths; in blocks.

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
