"""Popularity, the baseline that every recommender must beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from seqloom.core.phase import Phase
from seqloom.data.popularity_scores import popularity_scores
from seqloom.systems.base import Sizes, System, TrainingData
from seqloom.systems.config import PopularityConfig


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
        """Counts the events of the training part."""
        self.counts.copy_(data.dataset.popularity[1:])

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Returns no phase."""
        return []

    def scorer(self) -> PopularityScorer:
        """Returns a scorer by counts."""
        return PopularityScorer(self.counts)


class PopularityScorer:
    """Gives every history the scores of `popularity_scores`; equal counts tie."""

    def __init__(self, counts: Tensor) -> None:
        self.num_items = len(counts)
        self._scores = popularity_scores(counts)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Scores the catalogue. Shapes: [B, L], [B] -> [B, N] float64."""
        return self._scores.repeat(len(items), 1)
