"""Sequence encoders over item ids alone."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.sequence import SequenceConfig, SequenceSystem


class SASRecConfig(SequenceConfig):
    """SASRec; the defaults were chosen on validation (see docs/results.md)."""

    initial_std: float = Field(0.02, gt=0)
    """Standard deviation of the item table's random start."""
    scale_inputs: bool = True
    """Multiply item vectors by sqrt(hidden_size) on entry. Source: Vaswani et al. 2017, section 3.4."""


class SASRec(SequenceSystem[SASRecConfig]):
    """An item table, a causal transformer, and the table again as output.

    Source: Kang & McAuley, ICDM 2018.
    Differs: exact softmax over the catalogue in place of one sampled negative, which ranks far better.
    """

    name: ClassVar[str] = "sasrec"
    config_class: ClassVar[type[SASRecConfig]] = SASRecConfig

    def __init__(self, config: SASRecConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.scale = config.encoder.hidden_size**0.5 if config.scale_inputs else 1.0
        self.items = nn.Parameter(torch.zeros(sizes.num_items, config.encoder.hidden_size))

    def initialise(self, data: TrainingData) -> None:
        """Draw the item table."""
        nn.init.normal_(self.items, std=self.config.initial_std)

    def item_vectors(self) -> Tensor:
        """The item table. Shapes: [N, D]."""
        return self.items

    def states(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """Shapes: items [B, L], lengths [B], vectors [N, D] -> [B, L, D]."""
        inputs = F.embedding((items - 1).clamp(min=0), vectors)
        return self.encoder(self.encoder.enter(inputs * self.scale), lengths)
