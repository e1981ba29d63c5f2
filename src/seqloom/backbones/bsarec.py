"""BSARec: a causal transformer whose attention is mixed with a filter of frequencies."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqloom.backbones.base import SequenceEncoder, transformer_cost
from seqloom.backbones.config import BSARecEncoderConfig
from seqloom.core.cost import ComputeCost
from seqloom.nn.attention import TransformerBlock, reset_parameters
from seqloom.nn.dropout import Dropout
from seqloom.nn.filters import FrequencyRescaling, rescaling_cost


class FilteredBlock(TransformerBlock):
    """x + mix(norm(x)), then x + feed-forward(norm(x)), where mix = alpha filter + (1 - alpha) attention."""

    def __init__(self, config: BSARecEncoderConfig) -> None:
        width = config.hidden_size
        super().__init__(width, config.num_heads, config.inner_factor * width, config.dropout)
        self.filter_share = config.filter_share
        self.filter = FrequencyRescaling(width, config.max_len, config.cutoff)

    def forward(self, x: Tensor, *, causal: bool, mask: Tensor | None) -> Tensor:
        """Shapes: [B, L, D] -> [B, L, D]."""
        normed = self.attention_norm(x)
        attended = self.attention(normed, normed, causal=causal, mask=mask)
        mixed = torch.lerp(attended, self.filter(normed), self.filter_share)
        x = x + self.dropout(mixed)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class BSARecEncoder(SequenceEncoder):
    """A causal transformer with an inductive bias towards some frequencies of the history.

    Source: Shin et al., AAAI 2024, eqs. 8 to 12.
    Differs: the filter is causal (`nn.filters`), so that every position is trained; the authors' code filters
    the whole padded history and therefore cuts each history into all its prefixes, of which the last position
    is trained. Pre-norm blocks with one residual around the mixture, positions that count from the oldest
    kept item and a final norm, as in `SASRecEncoder`.
    """

    causal = True

    def __init__(self, config: BSARecEncoderConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.config = config
        self.max_len = config.max_len
        self.position = nn.Embedding(config.max_len, width)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(FilteredBlock(config) for _ in range(config.num_layers))
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
        """Returns the cost of positions, dropout, blocks with their filters, and norm."""
        config = self.config
        filters = rescaling_cost(config.hidden_size, rows, length) * config.num_layers
        return transformer_cost(config, rows, length) + filters
