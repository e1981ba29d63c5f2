"""Yardsticks of plain torch: SASRec from its own layers with every logit in memory, libraries as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqloom.data.sequences import Sequences
from seqloom.nn.linear import OneDNNLinear


class PlainSASRec(nn.Module):
    """What one writes in an afternoon: same width, blocks, heads, dropout and loss."""

    def __init__(
        self, num_items: int, width: int, layers: int, heads: int, dropout: float, max_len: int
    ) -> None:
        super().__init__()
        self.items = nn.Embedding(num_items + 1, width, padding_idx=0)
        self.position = nn.Embedding(max_len, width)
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)

    def loss(self, items: Tensor, targets: Tensor) -> Tensor:
        """Shapes: two of [B, L], 0 where padded."""
        length = items.shape[1]
        x = self.items(items) * self.items.embedding_dim**0.5
        x = self.dropout(x + self.position(torch.arange(length)))
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        x = self.norm(self.blocks(x, mask=mask, is_causal=True))
        logits = x @ self.items.weight.t()  # [B, L, N + 1]
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=0)


def plain_batches(train: Sequences, batch_size: int, seed: int) -> list[Tensor]:
    """Row numbers of each batch, in random order: no grouping by length."""
    draw = torch.Generator().manual_seed(seed)
    return list(torch.randperm(len(train), generator=draw).split(batch_size))


def plain_pair(train: Sequences, rows: Tensor, max_len: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a batch, padded to `max_len`. Shapes: two of [B, max_len]."""
    whole = train.select(rows).pad(max_len + 1)
    wide = F.pad(whole.items, (0, max_len + 1 - whole.items.shape[1]))
    targets = wide[:, 1:]
    return torch.where(targets > 0, wide[:, :-1], 0), targets


@contextmanager
def as_library(model: nn.Module) -> Iterator[None]:
    """Within the block a model of another library multiplies as that library does."""
    ours: list[nn.Module] = [module for module in model.modules() if type(module) is OneDNNLinear]
    for module in ours:
        module.__class__ = nn.Linear
    try:
        yield
    finally:
        for module in ours:
            module.__class__ = OneDNNLinear
