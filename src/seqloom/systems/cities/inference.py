"""The network that infers an item's vector from the items around its occurrences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqloom.nn.attention import TransformerBlock, reset_parameters
from seqloom.systems.cities.config import InferenceConfig

_WEIGHT_STD = 0.02
"""Standard deviation of the initial weight matrices."""


class ContextInference(nn.Module):
    """A transformer over each context, another over the contexts, and a linear map.

    Source: Jang et al., ICDM 2020, section IV.
    Differs: pre-norm blocks; the output is scaled to the standard deviation of the item table.
    """

    scale: Tensor

    def __init__(self, config: InferenceConfig, hidden_size: int) -> None:
        super().__init__()
        self.position = nn.Embedding(2 * config.reach, hidden_size)
        self.within = self._blocks(config, hidden_size)
        self.across = self._blocks(config, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.register_buffer("scale", torch.tensor(1.0))
        reset_parameters(self, _WEIGHT_STD)

    @staticmethod
    def _blocks(config: InferenceConfig, width: int) -> nn.ModuleList:
        return nn.ModuleList(
            TransformerBlock(width, config.num_heads, 2 * width, config.dropout)
            for _ in range(config.num_layers)
        )

    def forward(self, contexts: Tensor, vectors: Tensor) -> Tensor:
        """Infers a vector for each item; every item needs a context with at least one item.

        Shapes: contexts [B, K, W] item numbers, 0 for none; vectors [N, D] -> [B, D].
        """
        batch, many, wide = contexts.shape
        width = vectors.shape[1]
        real = contexts > 0  # [B, K, W]
        usable = real.any(-1)  # [B, K]
        rows = vectors[(contexts - 1).clamp(min=0)] / self.scale  # [B, K, W, D]
        x = (rows + self.position.weight).view(batch * many, wide, width)
        # A context without items attends everywhere; the mean below excludes it.
        mask = (real | ~usable[..., None]).view(batch * many, wide)
        for block in self.within:
            x = block(x, causal=False, mask=mask)
        x = _mean(x.view(batch, many, wide, width), mask.view(batch, many, wide))  # [B, K, D]
        for block in self.across:
            x = block(x, causal=False, mask=usable)
        return self.output(self.norm(_mean(x, usable))) * self.scale


def _mean(x: Tensor, real: Tensor) -> Tensor:
    """Returns the mean over real positions. Shapes: [..., L, D], [..., L] -> [..., D]."""
    weight = real[..., None].to(x.dtype)
    return (x * weight).sum(-2) / weight.sum(-2)
