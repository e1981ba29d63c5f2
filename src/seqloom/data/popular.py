"""Items by how often training met them."""

from __future__ import annotations

import torch
from torch import Tensor


def popularity_scores(counts: Tensor) -> Tensor:
    """Scores that order items by training events, and equal ones by item number, for everybody alike.

    Items without a training event share the last place: nothing tells them apart.

    Shapes: counts [N] -> [N] float64.
    """
    counts = counts.double()
    tie_break = torch.arange(len(counts), device=counts.device) / (2.0 * len(counts))
    return torch.where(counts > 0, counts - tie_break, 0.0)
