"""Cross-attention between two views of one history."""

from __future__ import annotations

from torch import Tensor, nn

from seqloom.nn.attention import Attention, reset_parameters


class CrossViewFusion(nn.Module):
    """Cross-attention in both directions: each view's vectors, weighted by queries of the other view.

    Source: LLM-ESR, eq. 5 and 6: C' = Attention(Q=S, K=V=C), S' = Attention(Q=C, K=V=S).
    Differs: with a causal encoder the attention is causal too (the authors' code lets a position see later
    ones); `residual` adds the view itself, which keeps each item's own vector and the order of items.
    """

    def __init__(
        self, hidden_size: int, num_heads: int, dropout: float, *, residual: bool, weight_std: float
    ) -> None:
        super().__init__()
        self.residual = residual
        self.to_collaborative = Attention(hidden_size, num_heads, dropout)
        self.to_semantic = Attention(hidden_size, num_heads, dropout)
        reset_parameters(self, weight_std)

    def forward(
        self, collaborative: Tensor, semantic: Tensor, *, causal: bool, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Returns both fused views. Shapes: two of [B, L, D] -> two of [B, L, D]."""
        c = self.to_collaborative(semantic, collaborative, causal=causal, mask=mask)
        s = self.to_semantic(collaborative, semantic, causal=causal, mask=mask)
        if self.residual:
            return collaborative + c, semantic + s
        return c, s
