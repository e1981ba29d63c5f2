"""The trained modules of a language model that encodes texts."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqloom.nn.recency import RecencySum
from seqloom.systems.tuned_text.config import TransformerTuningConfig

NEIGHBOURS = 20
"""Neighbours of an item that negatives are drawn from."""


class TextModel(nn.Module):
    """A sentence-transformers model whose dropout stays off, so that a text has one vector, in every pass."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.eval()

    def train(self, mode: bool = True) -> TextModel:
        """Keeps the language model in evaluation mode."""
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Encodes tokenised texts as vectors of length 1. Shapes: [B, T] -> [B, E]."""
        return F.normalize(self.model(dict(features))["sentence_embedding"], dim=1)

    def before_head(self, features: dict[str, Tensor]) -> Tensor:
        """Encodes without the last two modules, the head and scaling. Shapes: [B, T] -> [B, E]."""
        features = dict(features)
        for module in list(self.model)[:-2]:
            features = module(features)
        return features["sentence_embedding"]


class EncoderTower(TextModel):
    """A language model, with the parameters that compare its vectors."""

    neighbours: Tensor
    """[N, K] item numbers nearest to each item at the last validation, part of the state so that a resumed
    tuning mines the same negatives; 0 before the first one."""

    def __init__(self, model: Any, config: TransformerTuningConfig, num_items: int) -> None:
        super().__init__(model)
        self.recency = RecencySum(config.max_len, config.decay, config.history_dropout)
        self.log_scale = nn.Parameter(torch.tensor(1 / config.temperature).log())
        self.register_buffer(
            "neighbours", torch.zeros(num_items, min(NEIGHBOURS, num_items - 1), dtype=torch.int64)
        )

    def queries(self, vectors: Tensor) -> Tensor:
        """Returns directions after each item, times the inverse temperature. Shapes: [B, L, E] -> same."""
        return F.normalize(self.recency(vectors), dim=-1, eps=1e-6) * self.log_scale.exp()
