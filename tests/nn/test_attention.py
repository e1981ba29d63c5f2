"""Attention against a slow loop, and what it may not see."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from seqloom.nn.attention import Attention, TransformerBlock, last_position, reset_parameters
from seqloom.nn.fusion import CrossViewFusion


def slow_attention(
    module: Attention, queries: torch.Tensor, keys: Any, visible: Callable[..., Any]
) -> torch.Tensor:
    """One query at a time, one head at a time, in float64. Shapes: [L, D], [L, D]."""
    q = queries @ module.query.weight.double().t() + module.query.bias.double()
    kv = keys @ module.key_value.weight.double().t() + module.key_value.bias.double()
    k, v = kv.chunk(2, -1)
    size = q.shape[1] // module.num_heads
    out = torch.zeros_like(q)
    for head in range(module.num_heads):
        part = slice(head * size, (head + 1) * size)
        for t in range(len(q)):
            seen = [s for s in range(len(k)) if visible(t, s)]
            weights = torch.tensor([float(q[t, part] @ k[s, part]) for s in seen]) / math.sqrt(size)
            weights = torch.softmax(weights.double(), 0)
            out[t, part] = sum(w * v[s, part] for w, s in zip(weights, seen, strict=True))
    return out @ module.output.weight.double().t() + module.output.bias.double()


def test_causal_cross_attention_equals_the_loop() -> None:
    torch.manual_seed(0)
    module = Attention(8, 2, dropout=0.0)
    queries, keys = torch.randn(1, 5, 8), torch.randn(1, 5, 8)
    got = module(queries, keys, causal=True, mask=None)[0]
    expected = slow_attention(module, queries[0].double(), keys[0].double(), lambda t, s: s <= t)
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5)


def test_bidirectional_attention_sees_real_keys_only() -> None:
    torch.manual_seed(1)
    module = Attention(8, 2, dropout=0.0)
    x = torch.randn(1, 5, 8)
    mask = torch.tensor([[True, True, True, False, False]])
    got = module(x, x, causal=False, mask=mask)[0]
    expected = slow_attention(module, x[0].double(), x[0].double(), lambda t, s: s < 3)
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5)


def test_causal_block_never_looks_ahead() -> None:
    torch.manual_seed(2)
    block = TransformerBlock(8, 2, 16, dropout=0.0).eval()
    x = torch.randn(2, 6, 8)
    changed = x.clone()
    changed[:, 4:] = torch.randn(2, 2, 8)
    first, second = (block(v, causal=True, mask=None) for v in (x, changed))
    torch.testing.assert_close(first[:, :4], second[:, :4])
    assert not torch.allclose(first[:, 4:], second[:, 4:])


def test_fusion_takes_queries_from_the_other_view() -> None:
    torch.manual_seed(3)
    fusion = CrossViewFusion(8, 2, 0.0, residual=False, weight_std=0.1).eval()
    c, s = torch.randn(2, 4, 8), torch.randn(2, 4, 8)
    fused_c, fused_s = fusion(c, s, causal=True, mask=None)
    torch.testing.assert_close(fused_c, fusion.to_collaborative(s, c, causal=True, mask=None))
    torch.testing.assert_close(fused_s, fusion.to_semantic(c, s, causal=True, mask=None))
    fusion.residual = True
    torch.testing.assert_close(fusion(c, s, causal=True, mask=None)[0], c + fused_c)


def test_last_position_of_each_row() -> None:
    x = torch.arange(12.0).view(2, 3, 2)
    assert last_position(x, torch.tensor([2, 3])).tolist() == [[2.0, 3.0], [10.0, 11.0]]


def test_attention_that_starts_as_the_mean_gives_the_mean_of_what_it_reads() -> None:
    attention = Attention(8, 2, 0.0)
    reset_parameters(attention, std=1e-8)
    attention.start_as_mean()
    read = torch.randn(1, 4, 8)
    seen = torch.tensor([[True, True, True, False]])
    actual = attention(torch.randn(1, 4, 8), read, causal=False, mask=seen)
    torch.testing.assert_close(
        actual, read[:, :3].mean(1, keepdim=True).expand(1, 4, 8), rtol=0, atol=1e-5
    )
