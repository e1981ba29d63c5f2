"""The trained module of a language model that encodes texts."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqloom.nn.recency import RecencySum
from seqloom.systems.tuned_text.config import TransformerTuningConfig

NEIGHBOURS = 20
"""Neighbours of an item that negatives are drawn from."""


class EncoderTower(nn.Module):
    """A sentence-transformers model, with the parameters that compare its vectors.

    Dropout stays off, so that a text has one vector in a batch and the same in the second pass.
    """

    neighbours: Tensor
    """[N, K] item numbers nearest to each item at the last validation, part of the state so that a resumed
    tuning mines the same negatives; 0 before the first one."""

    def __init__(self, model: Any, config: TransformerTuningConfig, num_items: int) -> None:
        super().__init__()
        self.model = model
        self.recency = RecencySum(config.max_len, config.decay, config.history_dropout)
        self.log_scale = nn.Parameter(torch.tensor(1 / config.temperature).log())
        self.register_buffer(
            "neighbours", torch.zeros(num_items, min(NEIGHBOURS, num_items - 1), dtype=torch.int64)
        )

    def train(self, mode: bool = True) -> EncoderTower:
        """Keeps the language model in evaluation mode."""
        super().train(mode)
        self.model.eval()
        return self

    def encode(self, features: dict[str, Tensor]) -> Tensor:
        """Encodes tokenised texts as vectors of length 1. Shapes: [B, T] -> [B, E]."""
        vectors = self.model(dict(features))["sentence_embedding"]
        return F.normalize(vectors, dim=1)

    def queries(self, vectors: Tensor) -> Tensor:
        """Returns directions after each item, times the inverse temperature. Shapes: [B, L, E] -> same."""
        return F.normalize(self.recency(vectors), dim=-1, eps=1e-6) * self.log_scale.exp()
