"""Finds similar rows with an approximate index, for matrices too large to compare all pairs of rows."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.core.progress import SILENT, Progress
from seqloom.core.random import generator
from seqloom.inference.ann_index import ApproximateIndex, Recall
from seqloom.text.neighbours import top_similar
from seqloom.text.running_top_k import RunningTopK
from seqloom.text.similarity import SPARE, SimilaritySearch

_SAMPLE = 512
"""Rows whose exact neighbours are computed too: half tune the index, half measure its recall."""
_AT_ONCE = 1024


class ApproximateSimilarity(SimilaritySearch):
    """Takes candidates from an index and ranks them exactly."""

    def __init__(
        self,
        matrix: Tensor,
        unit: Tensor,
        norms: Tensor,
        tile: int,
        *,
        target: float,
        seed: int,
    ) -> None:
        """The index probes as many lists as the recall `target` needs. Shapes: as `SimilaritySearch`."""
        super().__init__(matrix, unit, norms, tile)
        self._index = ApproximateIndex(unit, seed=seed)
        self._target, self._seed = target, seed
        self.recall: Recall | None = None
        """The recall measured in the last search."""

    def all(self, k: int, progress: Progress) -> Tensor:
        """Finds the k best of every row. Shapes: -> [U, k]."""
        return self.some(torch.arange(len(self._unit)), k, progress)

    def some(self, queries: Tensor, k: int, progress: Progress) -> Tensor:
        """Finds the k best of the rows `queries`. Shapes: [R] -> [R, k]."""
        rows = len(self._unit)
        draw = generator(self._seed, "recall of similar rows")
        sample = torch.randperm(rows, generator=draw)[:_SAMPLE]
        self.recall = self._index.tune(self._unit[sample], k, self._target, sample[:, None])
        best = RunningTopK(len(queries), min(k + SPARE, rows - 1))
        kept = best.scores.shape[1]
        with progress.task("similar rows", total=len(queries), unit="rows") as task:
            for part in torch.arange(len(queries)).split(_AT_ONCE):
                own = queries[part]
                scores, columns = self._index.best(self._unit[own], kept, own[:, None])
                best.scores[part], best.columns[part] = scores, columns.int()
                task.advance(len(part))
        return self._rank_exactly(best, queries, k)

    def _rank_all_ties(self, best: RunningTopK, queries: Tensor, k: int, result: Tensor) -> None:
        """Does nothing: the index chooses among many equally similar rows."""


def top_similar_approximately(
    matrix: Tensor, k: int, target: float, *, seed: int = 0, progress: Progress = SILENT
) -> tuple[Tensor, Recall | None]:
    """Finds most of the neighbours of `top_similar`, about the share `target`, and measures that share.

    The result depends only on the matrix, `k`, `target` and `seed`. The recall is None where fewer than
    two rows have a direction, so that there was nothing to search. Needs memory for a copy of the matrix,
    about E / 4 + 12 (k + 8) bytes per row, and the sample that trains the index.

    Raises:
        ConfigError: as `top_similar`, or faiss is not installed.

    Shapes: matrix [U, E] -> [U, k] int64.
    """
    searches: list[ApproximateSimilarity] = []

    def search(matrix: Tensor, unit: Tensor, norms: Tensor, tile: int) -> ApproximateSimilarity:
        searches.append(ApproximateSimilarity(matrix, unit, norms, tile, target=target, seed=seed))
        return searches[0]

    neighbours = top_similar(matrix, k, progress=progress, search=search)
    return neighbours, searches[0].recall if searches else None
