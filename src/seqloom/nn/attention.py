"""Self-attention and cross-attention over right-padded sequences."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqloom.core.cost import FLOAT_BYTES, ComputeCost
from seqloom.nn.dropout import Dropout
from seqloom.nn.linear import Linear


class Attention(nn.Module):
    """Multi-head attention; queries come from one sequence, keys and values from another or the same.

    Source: Vaswani et al. 2017, section 3.2.
    """

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(
                f"hidden_size {hidden_size} is not a multiple of num_heads {num_heads}"
            )
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = Linear(hidden_size, hidden_size)
        self.key_value = Linear(hidden_size, 2 * hidden_size)
        self.output = Linear(hidden_size, hidden_size)

    def forward(
        self, queries: Tensor, keys: Tensor, *, causal: bool, mask: Tensor | None
    ) -> Tensor:
        """Attends from each query position to the keys.

        Args:
            causal: each position attends to itself and to earlier ones only.
            mask: [B, L] true where a key is real; not needed if `causal`, as padding is on the right.

        Shapes: queries [B, L, D], keys [B, L, D] -> [B, L, D].
        """
        q = self._split(self.query(queries))  # [B, H, L, D / H]
        k, v = (self._split(part) for part in self.key_value(keys).chunk(2, dim=-1))
        visible = None if mask is None or causal else mask[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=visible, dropout_p=dropout, is_causal=causal
        )
        batch, length, width = queries.shape
        return self.output(mixed.transpose(1, 2).reshape(batch, length, width))

    @torch.no_grad()
    def start_as_mean(self) -> None:
        """Adds the identity to the value and output maps, so that small weights give the mean of the keys."""
        width = self.output.in_features
        self.key_value.weight[width:] += torch.eye(width)
        self.output.weight += torch.eye(width)

    def _split(self, x: Tensor) -> Tensor:
        """Splits the width into heads. Shapes: [B, L, D] -> [B, H, L, D / H]."""
        batch, length, width = x.shape
        return x.view(batch, length, self.num_heads, width // self.num_heads).transpose(1, 2)


class TransformerBlock(nn.Module):
    """Pre-norm block: x + attention(norm(x)), then x + feed-forward(norm(x)).

    Differs: SASRec's paper normalises the query alone and adds the residual to it; pre-norm trains more
    steadily and ranks no worse.
    """

    def __init__(self, hidden_size: int, num_heads: int, inner_size: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.attention = Attention(hidden_size, num_heads, dropout)
        self.feed_forward_norm = nn.LayerNorm(hidden_size)
        self.feed_forward = nn.Sequential(
            Linear(hidden_size, inner_size),
            nn.GELU(),
            Dropout(dropout),
            Linear(inner_size, hidden_size),
        )
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, *, causal: bool, mask: Tensor | None) -> Tensor:
        """Shapes: [B, L, D] -> [B, L, D]."""
        normed = self.attention_norm(x)
        x = x + self.dropout(self.attention(normed, normed, causal=causal, mask=mask))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


def attention_cost(width: int, heads: int, rows: int, length: int) -> ComputeCost:
    """Counts the work of `Attention` over B x L vectors, forward and backward.

    Follows torch's kernels for a CPU: the backward pass does each product twice more; the scores of all
    pairs are written, dropped out and kept.
    """
    positions, pairs = rows * length, rows * heads * length * length
    return ComputeCost(
        products=3 * (8 * positions * width**2 + 4 * positions * length * width),
        elements=20 * positions * width + 12 * pairs,
        calls=70,
        held=FLOAT_BYTES * (7 * positions * width + 3 * pairs),
    )


def block_cost(width: int, heads: int, inner: int, rows: int, length: int) -> ComputeCost:
    """Counts the work of `TransformerBlock` over B x L vectors, forward and backward."""
    positions = rows * length
    feed_forward = ComputeCost(
        products=12 * positions * width * inner,
        elements=30 * positions * inner + 40 * positions * width,
        calls=90,
        held=FLOAT_BYTES * positions * (4 * inner + 7 * width),
    )
    return attention_cost(width, heads, rows, length) + feed_forward


def reset_parameters(module: nn.Module, std: float) -> None:
    """Draws normal weights of standard deviation `std`; sets biases to 0 and norms to 1."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


def last_position(x: Tensor, lengths: Tensor) -> Tensor:
    """Returns the vector at each row's last real position. Shapes: [B, L, D], [B] -> [B, D]."""
    rows = torch.arange(
        x.shape[0], device=x.device
    )  # no len(): exports keep the batch size dynamic
    return x[rows, (lengths - 1).clamp(min=0)]
