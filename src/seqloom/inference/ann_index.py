"""Approximate search among many vectors by inner product, its recall measured against the exact one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.core.random import generator

_TRAINED_ON = 40
"""Rows for each list that the lists are found with."""
_ROUNDS = 8
"""Of k-means."""
_FIRST_PROBES = 8
_FIRST_SPREAD = 4
_MOST_SPREAD = 64
_SPARE = 16
"""Candidates scored exactly: so many times what is wanted, and so many more."""
_WORTH_IT = 4
"""Where every so-manieth row would be a candidate, all are scored."""
_SCORES_AT_ONCE = 1 << 24
"""Exact scores held at once: 64 MiB."""
_EQUAL = 1e-5
"""Relative difference of two float32 scores of one pair that were computed in two ways."""


@dataclass(frozen=True)
class Recall:
    """What an index finds of what there is."""

    recall: float
    """Share of the exact list, between 0 and 1; of equal scores any counts."""
    k: int
    """Length of the lists."""
    queries: int
    """Queries that it was measured on; the number of lists was chosen on others."""
    target: float
    """What the index was set up for."""
    probes: int
    """Lists that each query looks through."""
    lists: int
    """Lists that there are."""

    def __str__(self) -> str:
        return (
            f"recall@{self.k} {self.recall:.4f} of the exact search on {self.queries} samples, "
            f"looking through {self.probes} of {self.lists} lists"
        )


class ApproximateIndex:
    """Finds the rows of highest inner product with a query, and looks at few of them.

    Rows are kept in lists of rows that are alike, each in a code of two bits a number (faiss: IVF with
    product quantisation). A query goes through the nearest lists; what looks best by its code is scored
    exactly from `vectors`, which stay where they are. The same vectors and seed give the same index.

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
        """The best `k` rows that are not among `without`, by their exact scores, and these.

        Queries for which too few are found, because most candidates are not wanted, go through all rows.

        Args:
            without: [B, S] rows that each query leaves out; -1 where there is none.

        Shapes: queries [B, D] -> scores [B, k], minus infinity where there is no row, and rows [B, k]
        int64, -1 there.
        """
        queries = queries.float().cpu()
        left_out = 0 if without is None else without.shape[1]
        count = self._spread * k + _SPARE + left_out
        if count * _WORTH_IT > self.rows:
            return self.exact(queries, k, without)
        found = self._candidates(queries, count)  # [B, C]
        scores = torch.einsum("bcd,bd->bc", self._vectors[found.clamp(min=0)], queries)
        hidden = found < 0
        if without is not None:
            hidden |= self._among(found, without)
        values, at = scores.masked_fill_(hidden, -torch.inf).topk(k, dim=1)
        rows = found.gather(1, at)
        short = torch.nonzero(~torch.isfinite(values[:, -1])).flatten()
        if len(short):
            less = None if without is None else without[short]
            values[short], rows[short] = self.exact(queries[short], k, less)
        return values, rows

    def exact(
        self, queries: Tensor, k: int, without: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `best`, and every row is scored. Shapes: as `best`."""
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
        """Look through as many lists as give `target` recall on half of `queries`; measure on the rest.

        Step by step, the lists or the candidates that are scored are doubled, whichever finds more, until
        there is nothing to double: codes are coarse, so more lists alone may not do.

        Shapes: queries [B, D] with B at least 2, without as in `best`.
        """
        exact = self.exact(queries, k, without)[0]
        chosen = torch.arange(len(queries)) % 2 == 0

        def share(rows: Tensor, probes: int, spread: int) -> float:
            self.probes, self._spread = probes, spread
            less = None if without is None else without[rows]
            return _share(self.best(queries[rows], k, less)[0], exact[rows])

        setting = (min(_FIRST_PROBES, self.lists), _FIRST_SPREAD)
        found = share(chosen, *setting)
        while found < target and (further := self._further(*setting)):
            found, setting = max(
                ((share(chosen, *each), each) for each in further), key=lambda tried: tried[0]
            )
        recall = share(~chosen, *setting)
        measured = int((~chosen).sum())
        return Recall(recall, k, measured, target, self.probes, self.lists)

    def _further(self, probes: int, spread: int) -> list[tuple[int, int]]:
        """The settings that come after one."""
        settings = []
        if probes < self.lists:
            settings.append((min(2 * probes, self.lists), spread))
        if spread < _MOST_SPREAD:
            settings.append((probes, 2 * spread))
        return settings

    def _build(self) -> Any:
        """The lists and the codes."""
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
        wanted = max(self.lists * _TRAINED_ON, 16 * 256)
        draw = generator(self._seed, "approximate index")
        sample = torch.randperm(self.rows, generator=draw)[:wanted].sort().values
        while len(sample) < 16:  # a code has 16 values for each pair of numbers
            sample = sample.repeat(2)
        index.train(self._even(self._vectors[sample]))
        for part in self._vectors.split(1 << 16):
            index.add(self._even(part))
        return index

    def _candidates(self, queries: Tensor, count: int) -> Tensor:
        """Shapes: [B, D] -> [B, count] int64, -1 where fewer were met."""
        self._limit_threads()
        params = self._faiss.SearchParametersIVF(nprobe=self.probes)
        found = self._index.search(self._even(queries), count, params=params)[1]
        return torch.from_numpy(found)

    def _even(self, part: Tensor) -> Any:
        """A numpy array of an even number of columns. Shapes: [B, D] -> [B, D or D + 1]."""
        return torch.nn.functional.pad(part, (0, part.shape[1] % 2)).contiguous().numpy()

    def _among(self, found: Tensor, without: Tensor) -> Tensor:
        """Which candidates are left out. Shapes: [B, C], [B, S] -> [B, C] bool."""
        line = torch.arange(len(found))[:, None] * (self.rows + 1) + 1
        return torch.isin(found + line, without + line)

    def _limit_threads(self) -> None:
        """faiss has threads of its own, and their number belongs to the calling thread."""
        self._faiss.omp_set_num_threads(torch.get_num_threads())


def _share(found: Tensor, exact: Tensor) -> float:
    """Share of exact lists that was found, going by scores. Shapes: [B, k], [B, k]."""
    there = torch.isfinite(exact)
    last = exact.masked_fill(~there, torch.inf).amin(1, keepdim=True)  # [B, 1]
    hits = (found >= last - _EQUAL * last.abs()) & torch.isfinite(found)
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
