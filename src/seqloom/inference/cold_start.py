"""Scores items for users without a history: by popularity, whatever the system.

No system learns what comes first: each is trained on an item after others. What it would score after no item
at all is an accident of how it pads. So no empty history reaches a system, in evaluation or in serving.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.data.popularity_scores import popularity_scores


def cold_start_scores(popularity: Tensor, num_items: int) -> Tensor:
    """Scores of a catalogue after no history.

    Args:
        popularity: [N'] training events, N' <= N: later items, added after training, have none.

    Shapes: -> [N] float64.
    """
    later = num_items - len(popularity)
    return popularity_scores(torch.nn.functional.pad(popularity, (0, later)))
