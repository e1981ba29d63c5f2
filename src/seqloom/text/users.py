"""User embeddings without an encoder: the mean of what the user chose."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.data.sequences import Sequences


def mean_of_items(train: Sequences, items: Tensor) -> Tensor:
    """For each user the mean embedding of the training items, each event counted once.

    A user without training items has a row of zeros.

    Shapes: train U rows, items [N, E] -> [U, E].
    """
    _, flat = train.flat()
    lengths = train.lengths
    starts = lengths.cumsum(0) - lengths
    return torch.nn.functional.embedding_bag(flat - 1, items, starts, mode="mean")
