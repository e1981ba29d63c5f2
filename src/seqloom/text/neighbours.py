"""The most similar rows of a matrix: exact cosine top-k in blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.core.progress import SILENT, Progress

_CHUNK = 64
"""Columns whose best score stands for them when candidates are looked for."""
_SPARE = 8
_CLOSE = 2e-6
"""Above the rounding error of a float32 product of unit vectors: scores this close are compared
anew in float64."""
_EQUAL = 1e-12
"""Scores that agree to so much are ties."""
_NOBODY = -2.0
"""Score of a row of zeros: below every cosine."""


def top_similar(matrix: Tensor, k: int, block: int = 1024, progress: Progress = SILENT) -> Tensor:
    """For each row, the `k` other rows of highest cosine similarity, the most similar first.

    Exact, and never holds more than `block` x U scores. Ties go to the lower row number. Rows of
    zeros have no direction: they are similar to nobody, so they are chosen only where fewer than
    `k` others are left, and their own neighbours are the lowest-numbered rows.

    Raises:
        ConfigError: `k` is not between 1 and U - 1, or a value is not finite.

    Shapes: matrix [U, E] -> [U, k] int64.
    """
    rows = len(matrix)
    if not 1 <= k <= rows - 1:
        raise ConfigError(f"cannot find {k} similar rows among {rows}; 1 to {rows - 1} are allowed")
    if not torch.isfinite(matrix).all():
        raise ConfigError("cannot find similar rows: the matrix holds NaN or infinity")
    norms = matrix.double().norm(dim=1)
    zero = torch.nonzero(norms == 0).flatten()
    norms[zero] = 1
    unit = (matrix / norms[:, None]).float()
    padded = -(-rows // _CHUNK) * _CHUNK
    scores = torch.full((min(block, rows), padded), -torch.inf)
    found = torch.empty(rows, k, dtype=torch.int64)
    with progress.task("similar rows", total=rows, unit="rows") as task:
        for start in range(0, rows, block):
            end = min(start + block, rows)
            own = torch.arange(start, end)
            part = scores[: end - start]
            torch.mm(unit[start:end], unit.T, out=part[:, :rows])
            part[:, zero] = _NOBODY
            part[own - start, own] = -torch.inf
            found[start:end] = _best(part, own, matrix, norms, k)
            task.advance(end - start)
    return found


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
