"""The most similar rows of a matrix: exact cosine top-k in blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.core.progress import SILENT, Progress

_CHUNK = 64
"""Columns whose best score stands for them when candidates are looked for."""
_SPARE = 8
_MOST_SCORES = 2**28
"""Scores held at once: a GiB."""
_MOST_ROWS = 1024
"""More rows at once make the product no faster."""
_NORMALISED_AT_ONCE = 16_384
_CLOSE = 2e-6
"""Above the rounding error of a float32 product of unit vectors: scores this close are compared
anew in float64."""
_EQUAL = 1e-12
"""Scores that agree to so much are ties."""
_NOBODY = -2.0
"""Score of a row of zeros: below every cosine."""


def top_similar(
    matrix: Tensor,
    k: int,
    block: int | None = None,
    progress: Progress = SILENT,
    of: Tensor | None = None,
) -> Tensor:
    """For each row, the `k` other rows of highest cosine similarity, the most similar first.

    Exact. Ties go to the lower row number. Rows of zeros have no direction: they are similar to
    nobody, so they are chosen only where fewer than `k` others are left, and their own neighbours
    are the lowest-numbered rows. Beside the matrix, a copy of it and a GiB of scores are held,
    whatever the number of rows.

    Args:
        block: rows compared at a time; by default as many as a GiB of scores allows.
        of: row numbers [R] whose neighbours are wanted; all by default.

    Raises:
        ConfigError: `k` is not between 1 and U - 1, or a value is not finite.

    Shapes: matrix [U, E] -> [U, k] int64, or [R, k].
    """
    rows = len(matrix)
    if not 1 <= k <= rows - 1:
        raise ConfigError(f"cannot find {k} similar rows among {rows}; 1 to {rows - 1} are allowed")
    unit, norms, zero = _normalised(matrix)
    wanted = torch.arange(rows) if of is None else of
    padded = -(-rows // _CHUNK) * _CHUNK
    if block is None:
        block = min(_MOST_ROWS, max(1, _MOST_SCORES // padded))
    scores = torch.full((min(block, len(wanted)), padded), -torch.inf)
    found = torch.empty(len(wanted), k, dtype=torch.int64)
    with progress.task("similar rows", total=len(wanted), unit="rows") as task:
        for start in range(0, len(wanted), block):
            own = wanted[start : start + block]
            part = scores[: len(own)]
            torch.mm(unit[own], unit.T, out=part[:, :rows])
            part[:, zero] = _NOBODY
            part[torch.arange(len(own)), own] = -torch.inf
            found[start : start + block] = _best(part, own, matrix, norms, k)
            task.advance(len(own))
    return found


def _normalised(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Unit rows, their norms (1 for a row of zeros), and which rows are zeros; in blocks.

    Shapes: [U, E] -> [U, E] float32, [U] float64, [zeros] int64.
    """
    unit = torch.empty(matrix.shape, dtype=torch.float32)
    norms = torch.empty(len(matrix), dtype=torch.float64)
    zero = torch.empty(len(matrix), dtype=torch.bool)
    for start in range(0, len(matrix), _NORMALISED_AT_ONCE):
        part = matrix[start : start + _NORMALISED_AT_ONCE].double()
        if not torch.isfinite(part).all():
            raise ConfigError("cannot find similar rows: the matrix holds NaN or infinity")
        lengths = part.norm(dim=1)
        zero[start : start + len(part)] = lengths == 0
        norms[start : start + len(part)] = torch.where(lengths > 0, lengths, 1.0)
        unit[start : start + len(part)] = part / norms[start : start + len(part), None]
    return unit, norms, torch.nonzero(zero).flatten()


def _best(scores: Tensor, own: Tensor, matrix: Tensor, norms: Tensor, k: int) -> Tensor:
    """The exact choice for the rows `own` from their float32 scores.

    The best score of a chunk of columns stands for the chunk: the k best rows lie in the chunks
    whose best score is among the k highest. Few candidates are left to be compared in float64.

    Shapes: scores [b, padded U], own [b], matrix [U, E], norms [U] -> [b, k].
    """
    chunks = scores.view(len(scores), -1, _CHUNK).amax(dim=2)  # [b, chunks]
    taken = min(k + _SPARE, chunks.shape[1])
    best, which = chunks.topk(taken, dim=1)
    columns = (which[:, :, None] * _CHUNK + torch.arange(_CHUNK)).flatten(1)  # [b, taken * chunk]
    candidates = scores.gather(1, columns)
    top, at = candidates.topk(min(k + _SPARE, candidates.shape[1]), dim=1)
    bound = top[:, k - 1] - _CLOSE
    chosen = _settle(top, columns.gather(1, at), own, matrix, norms, k)
    # Where more rows tie than were looked at, look at all of them.
    crowded = top[:, -1] >= bound
    if taken < chunks.shape[1]:
        crowded |= best[:, -1] >= bound
    for row in torch.nonzero(crowded).flatten().tolist():
        tied = torch.nonzero(scores[row] >= bound[row]).T  # [1, ties]
        own_row = own[row : row + 1]
        chosen[row] = _settle(scores[row][tied], tied, own_row, matrix, norms, k)[0]
    return chosen


def _settle(
    scores: Tensor, columns: Tensor, own: Tensor, matrix: Tensor, norms: Tensor, k: int
) -> Tensor:
    """The k best of the candidates by float64 cosine, ties to the lower number.

    Shapes: scores and columns [b, candidates], own [b], matrix [U, E], norms [U] -> [b, k].
    """
    columns, order = columns.sort(dim=1)
    scores = scores.gather(1, order).double()
    real = columns.clamp(max=len(matrix) - 1)
    exact = torch.einsum("bce,be->bc", matrix[real].double(), matrix[own].double())
    exact = exact / norms[real] / norms[own][:, None]
    # Zero rows, the row itself and padding keep the marks that rank them last.
    exact = torch.where(scores > (_NOBODY + 0.5), exact, scores)
    ranked = (exact / _EQUAL).round().sort(dim=1, descending=True, stable=True).indices
    return columns.gather(1, ranked[:, :k])
