"""The common base of systems over item ids: one item table and a sequence encoder."""

from __future__ import annotations

from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from seqloom.backbones.config import TransformerConfig
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.base_config import IDConfig
from seqloom.systems.sequence import SequenceSystem

IDConfigT = TypeVar("IDConfigT", bound=IDConfig)


class IDSystem(SequenceSystem[IDConfigT], Generic[IDConfigT]):
    """An item table, which is also the output layer, and a sequence encoder."""

    def __init__(self, config: IDConfigT, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        scaled = config.scale_inputs and isinstance(config.encoder, TransformerConfig)
        self.scale = config.encoder.hidden_size**0.5 if scaled else 1.0
        self.items = nn.Parameter(torch.zeros(sizes.num_items, config.encoder.hidden_size))

    def initialise(self, data: TrainingData) -> None:
        """Draws the item table."""
        nn.init.normal_(self.items, std=self.config.initial_std)

    def item_vectors(self) -> Tensor:
        """Returns the item table. Shapes: [N, D]."""
        return self.items

    def states(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """Encodes histories. Shapes: items [B, L], lengths [B], vectors [N, D] -> [B, L, D]."""
        inputs = self.embed(items, vectors) * self.scale
        return self.encoder(self.encoder.enter(inputs, lengths), lengths)
