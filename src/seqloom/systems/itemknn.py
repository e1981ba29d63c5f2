"""Item-based nearest neighbours by co-occurrence in histories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from seqloom.core.phase import Phase
from seqloom.data.sequences import PaddedBatch, Sequences
from seqloom.systems.base import Sizes, System, TrainingData
from seqloom.systems.config import ItemKNNConfig

_COLUMNS_AT_ONCE = 2048


class ItemKNN(System[ItemKNNConfig]):
    """Sums, over the history's items, their shrunk cosine similarity to every item.

    Source: Sarwar et al., WWW 2001; shrinkage as in Ferrari Dacrema et al., RecSys 2019.
    Differs: recent items of the history weigh more.
    """

    name: ClassVar[str] = "itemknn"
    config_class: ClassVar[type[ItemKNNConfig]] = ItemKNNConfig
    yardstick: ClassVar[bool] = True
    neighbours: Tensor
    similarities: Tensor

    def __init__(self, config: ItemKNNConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        shape = (sizes.num_items, min(config.neighbours, sizes.num_items))
        self.register_buffer("neighbours", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("similarities", torch.zeros(shape))

    @property
    def max_len(self) -> int:
        """The number of history items that are used."""
        return self.config.max_len

    def initialise(self, data: TrainingData) -> None:
        """Finds each item's neighbours in the training part."""
        kept = self.neighbours.shape[1]
        neighbours, similarities = nearest_items(
            data.dataset.train, data.dataset.tie_keys, kept, self.config.shrinkage
        )
        self.neighbours.copy_(neighbours)
        self.similarities.copy_(similarities)

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Returns no phase."""
        return []

    def scorer(self) -> ItemKNNScorer:
        """Returns a scorer by similarity to the history's items."""
        return ItemKNNScorer(self)


class ItemKNNScorer:
    """Scores of ItemKNN."""

    def __init__(self, system: ItemKNN) -> None:
        self.num_items = system.sizes.num_items
        self._system = system

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Sums weighted similarities. Shapes: [B, L], [B] -> [B, N]."""
        system = self._system
        weight = PaddedBatch(items, lengths).recency(system.config.decay)  # [B, L]
        rows = (items - 1).clamp(min=0)
        votes = system.similarities[rows] * weight[..., None]  # [B, L, K]
        scores = torch.zeros(len(items), self.num_items, device=items.device)
        return scores.scatter_add_(1, system.neighbours[rows].long().flatten(1), votes.flatten(1))


def nearest_items(
    train: Sequences, keys: Tensor, k: int, shrinkage: float
) -> tuple[Tensor, Tensor]:
    """Returns the `k` most similar other items of each item: rows, and similarities (0: padding).

    Similarity is |users of both| / (sqrt(|users of a| |users of b|) + shrinkage). Of equally similar items
    the one with the lower key is nearer (`data.tie_keys`). Memory grows with a block of columns, never
    with N x N.

    Shapes: keys [N] int64 -> two of [N, k].
    """
    from scipy import sparse

    num_items, by_key = len(keys), keys.numpy()
    users, items = (part.numpy() for part in train.flat())
    shape = (len(train), num_items)
    seen = sparse.csr_matrix((np.ones(len(items), np.float32), (users, items - 1)), shape=shape)
    seen.data[:] = 1.0
    counts = np.asarray(seen.sum(0)).ravel()
    by_item = seen.T.tocsr()
    neighbours = np.zeros((num_items, k), np.int32)
    similarities = np.zeros((num_items, k), np.float32)
    for start in range(0, num_items, _COLUMNS_AT_ONCE):
        stop = min(start + _COLUMNS_AT_ONCE, num_items)
        joint = (by_item[start:stop] @ seen).tocsr()
        for row in range(stop - start):
            span = slice(joint.indptr[row], joint.indptr[row + 1])
            others, together = joint.indices[span], joint.data[span]
            apart = others != start + row
            others, together = others[apart], together[apart]
            alike = together / (np.sqrt(counts[start + row] * counts[others]) + shrinkage)
            best = np.lexsort((by_key[others], -alike))[:k]
            neighbours[start + row, : len(best)] = others[best]
            similarities[start + row, : len(best)] = alike[best]
    return torch.from_numpy(neighbours), torch.from_numpy(similarities)
