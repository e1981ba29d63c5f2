"""Sums over a history in which each item weighs by how long ago it came."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class RecencySum(nn.Module):
    """The sum of a history's vectors up to each position, with a trained weight for each age.

    Starts as a geometric decay. In training, each earlier item of a position is left out with probability
    `dropout`, so that an item also has to predict alone.
    """

    def __init__(self, max_len: int, decay: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.log_weights = nn.Parameter(torch.arange(max_len) * math.log(decay))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the sums; positions see themselves and earlier ones. Shapes: [B, L, D] -> [B, L, D]."""
        length = x.shape[1]
        places = torch.arange(length, device=x.device)
        age = places[:, None] - places
        weights = torch.where(age >= 0, self.log_weights[age.clamp(min=0)].exp(), 0.0)  # [L, L]
        if self.training and self.dropout:
            kept = torch.rand(len(x), length, length, device=x.device) >= self.dropout
            weights = weights * (kept | (age == 0))  # [B, L, L]
        return weights @ x
