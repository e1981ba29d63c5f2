"""The yardstick that every recommender must beat: how often an item occurs in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from seqloom.core.phase import Phase
from seqloom.data.popularity_scores import popularity_scores
from seqloom.systems.base import Sizes, System, SystemConfig, TrainingData


class PopularityConfig(SystemConfig):
    """Popularity has nothing to set."""


class Popularity(System[PopularityConfig]):
    """Scores an item by its number of training events, whatever the history; see `popularity_scores`."""

    name: ClassVar[str] = "popularity"
    config_class: ClassVar[type[PopularityConfig]] = PopularityConfig
    yardstick: ClassVar[bool] = True
    counts: Tensor

    def __init__(self, config: PopularityConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.register_buffer("counts", torch.zeros(sizes.num_items, dtype=torch.float64))

    def initialise(self, data: TrainingData) -> None:
        """Count the training part."""
        self.counts.copy_(data.dataset.popularity[1:])

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """None: there is nothing to train."""
        return []

    def scorer(self) -> PopularityScorer:
        """Counts as scores."""
        return PopularityScorer(self.counts)


class PopularityScorer:
    """`popularity_scores` for every history; equal counts tie."""

    def __init__(self, counts: Tensor) -> None:
        self.num_items = len(counts)
        self._scores = popularity_scores(counts)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Shapes: [B, L], [B] -> [B, N] float64."""
        return self._scores.repeat(len(items), 1)
