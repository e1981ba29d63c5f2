"""Low-pass filters over the positions of a sequence that look backwards only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqloom.core.cost import FLOAT_BYTES, ComputeCost


def low_pass_kernel(length: int, cutoff: int) -> Tensor:
    """Returns the kernel h of a low-pass filter: what remains of an impulse after n steps, n = 0..length-1.

    The discrete Fourier transform over `length` places keeps the frequencies -m..m, m = cutoff // 2, so
    `cutoff` of them where that is odd: h[n] = (1 + 2 sum over k = 1..m of cos(2 pi k n / length)) / length.
    A sequence of period `length` convolved with h is its low-pass part. The frequency length / 2 counts once.

    Shapes: -> [length] float32.
    """
    most = min(cutoff // 2, length // 2)
    steps = torch.arange(length, dtype=torch.float64)
    waves = torch.ones(length, dtype=torch.float64)
    for k in range(1, most + 1):
        pair = 1.0 if 2 * k == length else 2.0
        waves += pair * torch.cos(2 * torch.pi * k * steps / length)
    return (waves / length).float()


class FrequencyRescaling(nn.Module):
    """Keeps the low frequencies of each channel and multiplies the high ones by a learned beta^2.

    The output at a position is that of the filter over the window of `length` positions that ends there,
    with zeros before the start of the sequence. So it depends on no later position.

    Source: Shin et al., AAAI 2024 (BSARec), eq. 10.
    Differs: the paper filters the padded sequence once, so that every position but the last also sees later
    ones; equal to the paper at the last position.
    """

    low: Tensor

    def __init__(self, hidden_size: int, length: int, cutoff: int) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.randn(hidden_size))
        age = torch.arange(length)[:, None] - torch.arange(length)
        kernel = low_pass_kernel(length, cutoff)
        low = torch.where(age >= 0, kernel[age.clamp(min=0)], 0.0)
        self.register_buffer("low", low, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: x [B, L, D] with L of at most `length` -> [B, L, D]."""
        length = x.shape[1]
        low = self.low[:length, :length] @ x
        return low + self.beta.square() * (x - low)


def rescaling_cost(width: int, rows: int, length: int) -> ComputeCost:
    """Counts the work of `FrequencyRescaling` over B x L vectors, forward and backward."""
    positions = rows * length
    return ComputeCost(
        products=4 * positions * length * width,
        elements=25 * positions * width,
        calls=25,
        held=FLOAT_BYTES * 4 * positions * width,
    )
