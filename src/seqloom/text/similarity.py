"""Exact cosine search over rows that are not zero, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from seqloom.core.progress import Progress
from seqloom.text.running_top_k import RunningTopK

SPARE = 8
"""Candidates kept beyond k, to detect ties."""
_PAIRS_AT_ONCE = 2**14
"""Pairs compared in float64 at a time."""
_SCORES_AT_ONCE = 2**26
"""Scores held at a time where rows are compared with all rows: 256 MiB."""
_CLOSE = 2e-6
"""Above the rounding error of a float32 product of unit vectors: scores this close are compared again in
float64."""
_EQUAL = 1e-12
"""Scores that differ by less are ties."""


class SimilaritySearch:
    """Finds the most similar other rows: candidates in float32, close scores ranked in float64.

    The product of two tiles of rows serves both, so a search for all rows costs half of the matrix
    product of all with all.
    """

    def __init__(self, matrix: Tensor, unit: Tensor, norms: Tensor, tile: int) -> None:
        """`unit` are the rows of `matrix` divided by their `norms`, in float32; none is zero.

        Shapes: [U, E], [U, E], [U] float64.
        """
        self._matrix, self._unit, self._norms = matrix, unit, norms
        self._tile = tile
        self._scores = torch.empty(tile * tile)

    def all(self, k: int, progress: Progress) -> Tensor:
        """Finds the k best of every row, ties to the lower number. Shapes: -> [U, k]."""
        rows = len(self._unit)
        starts = range(0, rows, self._tile)
        best = RunningTopK(rows, min(k + SPARE, rows - 1))
        pairs = rows * (rows + 1) // 2
        with progress.task("similar rows", total=pairs, unit="pairs") as task:
            for upper in starts:
                for left in starts[upper // self._tile :]:
                    scores = self._product(self._unit[upper : upper + self._tile], left)
                    height, width = scores.shape
                    if upper == left:
                        scores.fill_diagonal_(-torch.inf)
                        best.take(scores, upper, left)
                        task.advance(height * (height + 1) // 2)
                        continue
                    best.take(scores, upper, left)
                    best.take_transposed(scores, left, upper)
                    task.advance(height * width)
        return self._rank_exactly(best, torch.arange(rows), k)

    def some(self, queries: Tensor, k: int, progress: Progress) -> Tensor:
        """Finds the k best of the rows `queries`. Shapes: [R] -> [R, k]."""
        rows = len(self._unit)
        best = RunningTopK(len(queries), min(k + SPARE, rows - 1))
        with progress.task("similar rows", total=len(queries) * rows, unit="pairs") as task:
            for first, own in self._parts(queries):
                unit = self._unit[own]
                for left in range(0, rows, self._tile):
                    scores = self._product(unit, left)
                    inside = torch.nonzero((own >= left) & (own < left + self._tile)).flatten()
                    scores[inside, own[inside] - left] = -torch.inf
                    best.take(scores, first, left)
                    task.advance(scores.numel())
        return self._rank_exactly(best, queries, k)

    def _parts(self, queries: Tensor) -> Iterator[tuple[int, Tensor]]:
        for first in range(0, len(queries), self._tile):
            yield first, queries[first : first + self._tile]

    def _product(self, unit: Tensor, left: int) -> Tensor:
        """Multiplies rows with a tile of columns, in a buffer that the next call reuses.

        Shapes: unit [b, E] -> [b, c].
        """
        columns = self._unit[left : left + self._tile]
        out = self._scores[: len(unit) * len(columns)].view(len(unit), len(columns))
        return torch.mm(unit, columns.t(), out=out)

    def _rank_exactly(self, best: RunningTopK, queries: Tensor, k: int) -> Tensor:
        """Ranks candidates exactly: only rows with close scores are compared again in float64."""
        rows, kept = len(self._unit), best.scores.shape[1]
        result = best.columns[:, :k].long()
        gaps = best.scores[:, :-1] - best.scores[:, 1:]  # [R, kept - 1]
        close = torch.nonzero((gaps[:, :k] <= _CLOSE).any(dim=1)).flatten()
        for part in close.split(max(1, _PAIRS_AT_ONCE // kept)):
            result[part] = self._ranked(queries[part], best.columns[part].long(), k)
        if kept < rows - 1:
            self._rank_all_ties(best, queries, k, result)
        return result

    def _rank_all_ties(self, best: RunningTopK, queries: Tensor, k: int, result: Tensor) -> None:
        """Ranks all tied rows where there are more ties than candidates. Shapes: result [R, k]."""
        rows = len(self._unit)
        bound = best.scores[:, k - 1] - _CLOSE
        crowded = torch.nonzero(best.scores[:, -1] >= bound).flatten()
        for part in crowded.split(max(1, _SCORES_AT_ONCE // rows)):
            scores = self._unit[queries[part]] @ self._unit.t()
            scores[torch.arange(len(part)), queries[part]] = -torch.inf
            for row, number in enumerate(part.tolist()):
                tied = torch.nonzero(scores[row] >= bound[number]).t()  # [1, ties]
                result[number] = self._ranked(queries[number : number + 1], tied, k)[0]

    def _ranked(self, own: Tensor, columns: Tensor, k: int) -> Tensor:
        """Returns the k best of the candidates by float64 cosine, ties to the lower number.

        Shapes: own [b], columns [b, c] -> [b, k].
        """
        columns = columns.sort(dim=1).values
        left = self._matrix[own].double()
        parts = [
            torch.einsum("bce,be->bc", self._matrix[part].double(), left)
            for part in columns.split(max(1, _PAIRS_AT_ONCE // max(1, len(own))), dim=1)
        ]
        exact = torch.cat(parts, 1) / self._norms[columns] / self._norms[own][:, None]
        ranked = (exact / _EQUAL).round().sort(dim=1, descending=True, stable=True).indices
        return columns.gather(1, ranked[:, :k])
