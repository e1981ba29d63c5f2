"""User embeddings without an encoder: the mean of the user's item embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.data.sequences import Sequences


def mean_of_items(train: Sequences, items: Tensor) -> Tensor:
    """Averages the embeddings of each user's training items; an item counts as often as it occurs.

    A user without training items gets a row of zeros.

    Shapes: train U rows, items [N, E] -> [U, E].
    """
    _, flat = train.flat()
    lengths = train.lengths
    starts = lengths.cumsum(0) - lengths
    return torch.nn.functional.embedding_bag(flat - 1, items, starts, mode="mean")
