"""Followers of the history's items in the graph of transitions, with the texts of the items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.core.protocols import KnownItems, NewItems, NewRows, RowsOf
from seqloom.data.sequences import PaddedBatch, Sequences
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.config import GraphKNNConfig
from seqloom.systems.textknn import VECTORS, TextKNN, TextKNNScorer

FOLLOWERS, STRENGTHS = "followers", "strengths"
"""Names of the item tables of the graph."""
STAND_INS, SHARES = "stand_ins", "shares"
"""Names of the item tables of the trained items whose place in the graph a new item shares."""
_STAND_INS = 3
"""Number of stand-ins of a new item."""
_SHARPNESS = 3
"""A stand-in's share is in proportion to the cosine to this power."""


class GraphKNN(TextKNN):
    """Sums, over the history's items, how often an item followed them and how near its text is.

    The score of item i is the sum over the history's items j, each times decay^age(j), of

        text_weight x cosine(i, j) + follower_weight x log(1 + c_ji) / log(1 + max_k c_jk)

    where c_ji is the sum of skip^(g - 1) over the training events of i that stand g <= window places after
    one of j in the same history. Nothing is trained. A new item has no events, so the items with the nearest
    texts stand in for it: it follows what they follow, and is followed by what follows them, with the mean of
    their strengths, weighted by their cosines, times new_weight.

    Source: TGH, Han et al. 2026, arXiv 2605.07125: items that follow the last two of the history are
    candidates, ranked within a ring of the graph by the cosine of their texts plus normalised log counts.
    Differs: one sum over the whole catalogue in place of lists with a quota for each ring, so that a near
    text may stand before a rare follower; followers at a distance count in the graph itself in place of rings
    of followers of followers; the texts are whitened and those of the whole history count, as in `textknn`;
    the remaining items are ordered by text instead of at random.
    """

    name: ClassVar[str] = "graphknn"
    config_class: ClassVar[type[GraphKNNConfig]] = GraphKNNConfig
    redescribes_items: ClassVar[bool] = False
    config: GraphKNNConfig
    followers: Tensor
    strengths: Tensor
    stand_ins: Tensor
    shares: Tensor

    def __init__(self, config: GraphKNNConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        shape = (sizes.num_items, min(config.followers, sizes.num_items))
        self.register_buffer("followers", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("strengths", torch.zeros(shape))
        shape = (sizes.num_items, _STAND_INS)
        self.register_buffer("stand_ins", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("shares", torch.zeros(shape))

    def initialise(self, data: TrainingData) -> None:
        """Counts transitions in the training part; whitens the text embedding if one is read."""
        config = self.config
        if config.embeddings:
            super().initialise(data)
        rows, counts = count_followers(
            data.dataset.train,
            data.dataset.tie_keys,
            self.followers.shape[1],
            config.window,
            config.skip,
        )
        largest = counts[:, :1].log1p()  # rows are sorted
        share = torch.where(counts > 0, counts.log1p() / largest, 0.0)
        self.followers.copy_(rows)
        self.strengths.copy_(config.follower_weight * share)

    def scorer(self) -> GraphKNNScorer:
        """Returns a scorer by followers and text."""
        return self.scorer_over(self.item_tables())

    def item_tables(self) -> dict[str, Tensor]:
        """Returns vectors, followers and stand-ins; see `ExtendsCatalogue`.

        Shapes: [N, E], two of [N, K], two of [N, 3].
        """
        return {
            VECTORS: self.vectors,
            FOLLOWERS: self.followers,
            STRENGTHS: self.strengths,
            STAND_INS: self.stand_ins,
            SHARES: self.shares,
        }

    def rows_of(self, known: Callable[[], KnownItems]) -> RowsOf:
        """Maps any text into the space of the training catalogue and finds stand-ins; see `ExtendsCatalogue`.

        Raises:
            ConfigError: no text embedding is read.
        """
        if not self.config.embeddings:
            raise ConfigError(
                "graphknn takes new items by their text, and this run reads none (text_weight=0); "
                "train it with a text_weight above 0"
            )
        by_text, new_weight = super().rows_of(known), self.config.new_weight

        def rows(new: NewItems, tables: Mapping[str, Tensor]) -> NewRows:
            vectors = by_text(new, tables).tables[VECTORS]
            stand_ins, shares = find_stand_ins(vectors, tables)
            shares = shares * new_weight
            followers, strengths = mean_followers(stand_ins, shares, tables)
            return NewRows(
                {
                    VECTORS: vectors,
                    FOLLOWERS: followers,
                    STRENGTHS: strengths,
                    STAND_INS: stand_ins.int(),
                    SHARES: shares,
                }
            )

        return rows

    def scorer_over(self, tables: Mapping[str, Tensor]) -> GraphKNNScorer:
        """Returns a scorer over longer tables; see `ExtendsCatalogue`."""
        return GraphKNNScorer(self.config, tables)


class GraphKNNScorer:
    """Scores of GraphKNN."""

    def __init__(self, config: GraphKNNConfig, tables: Mapping[str, Tensor]) -> None:
        self.num_items = len(tables[VECTORS])
        self._config = config
        self._text = TextKNNScorer(tables[VECTORS], config.decay)
        self._followers, self._strengths = tables[FOLLOWERS], tables[STRENGTHS]
        self._new = torch.nonzero(tables[SHARES].any(1)).flatten()
        self._stand_ins = tables[STAND_INS][self._new].long()
        self._shares = tables[SHARES][self._new]

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Sums followers and text. Shapes: [B, L], [B] -> [B, N]."""
        weight = PaddedBatch(items, lengths).recency(self._config.decay)  # [B, L]
        rows = (items - 1).clamp(min=0)
        votes = self._strengths[rows] * weight[..., None]  # [B, L, K]
        scores = torch.zeros(len(items), self.num_items, device=items.device)
        scores.scatter_add_(1, self._followers[rows].long().flatten(1), votes.flatten(1))
        if len(self._new):
            scores[:, self._new] = torch.einsum(
                "bms,ms->bm", scores[:, self._stand_ins], self._shares
            )
        if self._config.embeddings:
            scores += self._text.score(items, lengths) * self._config.text_weight
        return scores


def find_stand_ins(vectors: Tensor, tables: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Returns the trained items whose texts are nearest to new ones, and their shares, which add up to 1.

    An item without a near text has shares of 0. Shapes: vectors [M, E] -> [M, 3] int64 rows, [M, 3].
    """
    trained = torch.nonzero(~tables[SHARES].any(1)).flatten()
    count = min(_STAND_INS, len(trained))
    nearest = (vectors @ tables[VECTORS][trained].t()).topk(count, dim=1)
    weights = nearest.values.clamp(min=0) ** _SHARPNESS
    shares = weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    unused = (0, _STAND_INS - count)
    return F.pad(trained[nearest.indices], unused), F.pad(shares, unused)


def mean_followers(
    stand_ins: Tensor, shares: Tensor, tables: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Returns the strongest followers of the stand-ins together: rows and strengths.

    Shapes: two of [M, 3] -> [M, K] int32, [M, K].
    """
    followers, strengths = tables[FOLLOWERS], tables[STRENGTHS]
    shape = (len(stand_ins), followers.shape[1])
    rows, made = followers.new_zeros(shape), strengths.new_zeros(shape)
    for place, (own, weights) in enumerate(zip(stand_ins, shares, strict=True)):
        candidates, at = followers[own].unique(return_inverse=True)
        votes = (strengths[own] * weights[:, None]).flatten()
        total = strengths.new_zeros(len(candidates)).scatter_add_(0, at.flatten(), votes)
        best = total.topk(min(shape[1], len(candidates)))
        rows[place, : len(best.values)] = candidates[best.indices]
        made[place, : len(best.values)] = best.values
    return rows, made


def count_followers(
    train: Sequences, keys: Tensor, k: int, window: int, skip: float
) -> tuple[Tensor, Tensor]:
    """Returns the `k` most frequent followers of each item: rows, and counts, largest first (0: padding).

    A follower g places later in the same history counts skip^(g - 1). No item follows itself. Of equally
    frequent ones the one with the lower key comes first (`data.tie_keys`). The result does not depend on the
    order of users.

    Shapes: keys [N] int64 -> two of [N, k], int32 and float32.
    """
    from scipy import sparse

    num_items = len(keys)
    users, items = (part.numpy() for part in train.flat())
    total = sparse.csr_matrix((num_items, num_items))
    for gap in range(1, min(window, len(items) - 1) + 1):
        first, then = items[:-gap] - 1, items[gap:] - 1
        apart = (users[:-gap] == users[gap:]) & (first != then)
        if apart.any():
            ones = np.ones(int(apart.sum()))
            pairs = sparse.csr_matrix((ones, (first[apart], then[apart])), shape=total.shape)
            total = total + pairs * skip ** (gap - 1)
    found = total.tocoo()
    order = np.lexsort((keys.numpy()[found.col], -found.data, found.row))
    row, column, count = found.row[order], found.col[order], found.data[order]
    sizes = np.bincount(row, minlength=num_items)
    place = np.arange(len(row)) - np.repeat(sizes.cumsum() - sizes, sizes)
    kept = place < k
    followers = np.zeros((num_items, k), np.int32)
    counts = np.zeros((num_items, k), np.float32)
    followers[row[kept], place[kept]] = column[kept]
    counts[row[kept], place[kept]] = count[kept]
    return torch.from_numpy(followers), torch.from_numpy(counts)
