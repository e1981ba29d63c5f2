"""SASRec: a causal transformer over the history."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqloom.backbones.base import SequenceEncoder, transformer_cost
from seqloom.backbones.config import SASRecEncoderConfig
from seqloom.core.cost import ComputeCost
from seqloom.nn.attention import TransformerBlock, reset_parameters
from seqloom.nn.dropout import Dropout


class SASRecEncoder(SequenceEncoder):
    """A causal transformer.

    Source: Kang & McAuley, ICDM 2018, sections III-A to III-C.
    Differs: pre-norm blocks with GELU; positions count from the oldest kept item, because histories
    are padded on the right; a final norm.
    """

    causal = True

    def __init__(self, config: SASRecEncoderConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.config = config
        self.max_len = config.max_len
        self.position = nn.Embedding(config.max_len, width)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, config.num_heads, config.inner_factor * width, config.dropout)
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(width)
        reset_parameters(self, config.weight_std)

    def enter(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Adds positions, then dropout. Shapes: [B, L, D], [B] -> [B, L, D]."""
        positions = torch.arange(vectors.shape[1], device=vectors.device)
        return self.dropout(vectors + self.position(positions))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Runs the blocks. Shapes: x [B, L, D], lengths [B] -> [B, L, D]."""
        for block in self.blocks:
            x = block(x, causal=True, mask=None)
        return self.norm(x)

    def cost(self, rows: int, length: int) -> ComputeCost:
        """Returns the cost of positions, dropout, blocks and norm."""
        return transformer_cost(self.config, rows, length)
