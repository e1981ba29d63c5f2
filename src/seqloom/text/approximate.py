"""Similar rows by an approximate index, for matrices whose comparison of all with all takes hours."""

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
"""Rows whose exact neighbours are found too: half to choose by, half to measure recall on."""
_AT_ONCE = 1024


class ApproximateSimilarity(SimilaritySearch):
    """Candidates from an index; which of them are the best, and in what order, is exact."""

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
        """Looks through as many lists as `target` recall takes. Shapes: as `SimilaritySearch`."""
        super().__init__(matrix, unit, norms, tile)
        self._index = ApproximateIndex(unit, seed=seed)
        self._target, self._seed = target, seed
        self.recall: Recall | None = None
        """What was measured at the last search."""

    def all(self, k: int, progress: Progress) -> Tensor:
        """The k best of every row. Shapes: -> [U, k]."""
        return self.some(torch.arange(len(self._unit)), k, progress)

    def some(self, asked: Tensor, k: int, progress: Progress) -> Tensor:
        """The k best of the rows `asked`. Shapes: [R] -> [R, k]."""
        rows = len(self._unit)
        draw = generator(self._seed, "recall of similar rows")
        sample = torch.randperm(rows, generator=draw)[:_SAMPLE]
        self.recall = self._index.tune(self._unit[sample], k, self._target, sample[:, None])
        best = RunningTopK(len(asked), min(k + SPARE, rows - 1))
        kept = best.scores.shape[1]
        with progress.task("similar rows", total=len(asked), unit="rows") as task:
            for part in torch.arange(len(asked)).split(_AT_ONCE):
                own = asked[part]
                scores, columns = self._index.best(self._unit[own], kept, own[:, None])
                best.scores[part], best.columns[part] = scores, columns.int()
                task.advance(len(part))
        return self._settled(best, asked, k)

    def _settle_crowded(self, best: RunningTopK, asked: Tensor, k: int, found: Tensor) -> None:
        """Which of many equally similar rows are taken is left to the index."""


def top_similar_approximately(
    matrix: Tensor, k: int, target: float, *, seed: int = 0, progress: Progress = SILENT
) -> tuple[Tensor, Recall | None]:
    """As `top_similar`, with most of the neighbours: about the share `target`. Says what share it is.

    The result depends on the matrix, `k`, `target` and `seed` alone. The recall is None where fewer than
    two rows have a direction, so that nothing was searched. Beside the matrix, a copy of it, about E / 4
    + 12 (k + 8) bytes a row and the sample that the index is made from are held.

    Raises:
        ConfigError: as `top_similar`, or faiss is not installed.

    Shapes: matrix [U, E] -> [U, k] int64.
    """
    made: list[ApproximateSimilarity] = []

    def search(matrix: Tensor, unit: Tensor, norms: Tensor, tile: int) -> ApproximateSimilarity:
        made.append(ApproximateSimilarity(matrix, unit, norms, tile, target=target, seed=seed))
        return made[0]

    found = top_similar(matrix, k, progress=progress, search=search)
    return found, made[0].recall if made else None
