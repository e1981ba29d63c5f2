"""Approximate search by inner product, with its recall measured against exact search."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.core.random import generator

_TRAINED_ON = 40
"""Rows that k-means is trained on, for each list."""
_ROUNDS = 8
"""Iterations of k-means."""
_FIRST_PROBES = 8
_FIRST_SPREAD = 4
_MOST_SPREAD = 64
_SPARE = 16
"""Candidates scored exactly: `spread` times k, and this many more."""
_WORTH_IT = 4
"""Where one row in this many would be a candidate, all rows are scored."""
_SCORES_AT_ONCE = 1 << 24
"""Exact scores held at once: 64 MiB."""
_EQUAL = 1e-5
"""Relative difference of two float32 scores of one pair that were computed in two ways."""


@dataclass(frozen=True)
class Recall:
    """Recall of an index against exact search."""

    recall: float
    """Share of the exact list, between 0 and 1; of equal scores any counts."""
    k: int
    """Length of the lists."""
    queries: int
    """Queries that it was measured on; the number of lists was chosen on others."""
    target: float
    """The recall that the index was tuned for."""
    probes: int
    """Lists that each query searches."""
    lists: int
    """All lists."""

    def __str__(self) -> str:
        return (
            f"recall@{self.k} {self.recall:.4f} of the exact search on {self.queries} samples, "
            f"looking through {self.probes} of {self.lists} lists"
        )


class ApproximateIndex:
    """Finds the rows with the highest inner product with a query, without scoring all of them.

    Similar rows stand in one list, each as a code of two bits a number (faiss: IVF with product
    quantisation). A query searches the nearest lists; the rows that are best by their codes are scored
    exactly from `vectors`, which are not copied. The same vectors and seed give the same index.

    Raises:
        ConfigError: faiss is not installed, or there are no rows.
    """

    def __init__(self, vectors: Tensor, *, seed: int = 0) -> None:
        """Shapes: vectors [N, D]."""
        self._faiss = _import_faiss()
        if not len(vectors):
            raise ConfigError("an index needs at least one row")
        self._vectors = vectors.detach().float().cpu()
        self.rows = len(vectors)
        self._seed = seed
        self.lists = max(1, min(int(4 * math.sqrt(self.rows)), self.rows // _TRAINED_ON))
        self.probes = min(_FIRST_PROBES, self.lists)
        self._spread = _FIRST_SPREAD
        self._index = self._build()

    def best(self, queries: Tensor, k: int, without: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the exact scores of the best `k` rows outside `without`, and these rows.

        Queries with too few candidates left, because most are in `without`, search all rows.

        Args:
            without: [B, S] rows that each query leaves out, -1 where padded.

        Shapes: queries [B, D] -> scores [B, k], minus infinity where there is no row, and rows [B, k]
        int64, -1 there.
        """
        queries = queries.float().cpu()
        left_out = 0 if without is None else without.shape[1]
        count = self._spread * k + _SPARE + left_out
        if count * _WORTH_IT > self.rows:
            return self.exact(queries, k, without)
        candidates = self._candidates(queries, count)  # [B, C]
        scores = torch.einsum("bcd,bd->bc", self._vectors[candidates.clamp(min=0)], queries)
        hidden = candidates < 0
        if without is not None:
            hidden |= self._left_out(candidates, without)
        values, at = scores.masked_fill_(hidden, -torch.inf).topk(k, dim=1)
        rows = candidates.gather(1, at)
        short = torch.nonzero(~torch.isfinite(values[:, -1])).flatten()
        if len(short):
            less = None if without is None else without[short]
            values[short], rows[short] = self.exact(queries[short], k, less)
        return values, rows

    def exact(
        self, queries: Tensor, k: int, without: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `best`, by scoring every row. Shapes: as `best`."""
        count = len(queries)
        values = torch.full((count, k), -torch.inf)
        rows = torch.full((count, k), -1, dtype=torch.int64)
        for part in torch.arange(count).split(max(1, _SCORES_AT_ONCE // self.rows)):
            scores = queries[part].float().cpu() @ self._vectors.t()  # [b, N]
            if without is not None:
                line, column = torch.nonzero(without[part] >= 0, as_tuple=True)
                scores[line, without[part][line, column]] = -torch.inf
            top = scores.topk(min(k, self.rows), dim=1)
            values[part, : self.rows] = top.values
            rows[part, : self.rows] = top.indices.masked_fill(top.values == -torch.inf, -1)
        return values, rows

    def tune(self, queries: Tensor, k: int, target: float, without: Tensor | None = None) -> Recall:
        """Searches as many lists as reach `target` recall on half of `queries`; measures on the rest.

        Each step doubles the lists or the candidates that are scored, whichever raises recall more, until
        neither can be doubled: codes are coarse, so more lists alone may not suffice.

        Shapes: queries [B, D] with B at least 2, without as in `best`.
        """
        exact = self.exact(queries, k, without)[0]
        chosen = torch.arange(len(queries)) % 2 == 0

        def share(rows: Tensor, probes: int, spread: int) -> float:
            self.probes, self._spread = probes, spread
            less = None if without is None else without[rows]
            return _share(self.best(queries[rows], k, less)[0], exact[rows])

        setting = (min(_FIRST_PROBES, self.lists), _FIRST_SPREAD)
        reached = share(chosen, *setting)
        while reached < target and (further := self._further(*setting)):
            reached, setting = max(
                ((share(chosen, *each), each) for each in further), key=lambda tried: tried[0]
            )
        recall = share(~chosen, *setting)
        measured = int((~chosen).sum())
        return Recall(recall, k, measured, target, self.probes, self.lists)

    def _further(self, probes: int, spread: int) -> list[tuple[int, int]]:
        """Settings with one of the two numbers doubled."""
        settings = []
        if probes < self.lists:
            settings.append((min(2 * probes, self.lists), spread))
        if spread < _MOST_SPREAD:
            settings.append((probes, 2 * spread))
        return settings

    def _build(self) -> Any:
        """Trains the lists and the codes, and adds all rows."""
        faiss, width = self._faiss, self._vectors.shape[1]
        even = width + width % 2
        self._limit_threads()
        index = faiss.index_factory(
            even, f"IVF{self.lists},PQ{even // 2}x4fs", faiss.METRIC_INNER_PRODUCT
        )
        index.cp.niter = _ROUNDS
        for clustering in (index.cp, index.pq.cp):
            clustering.seed = self._seed
            clustering.min_points_per_centroid = 1  # else faiss warns of small catalogues
        size = max(self.lists * _TRAINED_ON, 16 * 256)
        draw = generator(self._seed, "approximate index")
        sample = torch.randperm(self.rows, generator=draw)[:size].sort().values
        while len(sample) < 16:  # a code has 16 values for each pair of numbers
            sample = sample.repeat(2)
        index.train(self._even(self._vectors[sample]))
        for part in self._vectors.split(1 << 16):
            index.add(self._even(part))
        return index

    def _candidates(self, queries: Tensor, count: int) -> Tensor:
        """Shapes: [B, D] -> [B, count] int64, -1 where there are fewer."""
        self._limit_threads()
        params = self._faiss.SearchParametersIVF(nprobe=self.probes)
        rows = self._index.search(self._even(queries), count, params=params)[1]
        return torch.from_numpy(rows)

    def _even(self, part: Tensor) -> Any:
        """Pads to an even number of columns, as numpy array. Shapes: [B, D] -> [B, D or D + 1]."""
        return torch.nn.functional.pad(part, (0, part.shape[1] % 2)).contiguous().numpy()

    def _left_out(self, candidates: Tensor, without: Tensor) -> Tensor:
        """Marks the candidates that are left out. Shapes: [B, C], [B, S] -> [B, C] bool."""
        line = torch.arange(len(candidates))[:, None] * (self.rows + 1) + 1
        return torch.isin(candidates + line, without + line)

    def _limit_threads(self) -> None:
        """Limits the threads of faiss, whose number belongs to the calling thread."""
        self._faiss.omp_set_num_threads(torch.get_num_threads())


def _share(scores: Tensor, exact: Tensor) -> float:
    """Returns the share of exact lists that `scores` reach. Shapes: [B, k], [B, k]."""
    there = torch.isfinite(exact)
    last = exact.masked_fill(~there, torch.inf).amin(1, keepdim=True)  # [B, 1]
    hits = (scores >= last - _EQUAL * last.abs()) & torch.isfinite(scores)
    return float(hits.sum() / there.sum().clamp(min=1))


def _import_faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError:
        raise ConfigError(
            "approximate search needs faiss, which is not installed; pip install 'seqloom[ann]', or "
            "search exactly, which is the default"
        ) from None
    return faiss
