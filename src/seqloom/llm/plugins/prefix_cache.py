"""Computes the last states of many short sequences after one prefix, for Llama models.

The result equals that of transformers' forward pass; a test compares them. This is faster because adapters
are merged into the weights once for all sequences, on a CPU the prefix's keys are not copied for each
sequence, and the last layer computes only keys and values at all positions but the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from seqloom.llm.sharding import gather_layer
from seqloom.nn.linear import OneDNNLinear, padded_linear

FAMILY = ("llama",)
"""Supported values of `model_type`."""

KeysValues = tuple[Tensor, Tensor]


@dataclass
class SequenceBatch:
    """Sequences computed together, padded on the right."""

    x: Tensor
    """[B, L, D] input embeddings, then the states after each layer."""
    lengths: Tensor
    """[B], at least 1."""


def is_supported(backbone: Any) -> bool:
    """Returns whether `last_states` can run this model: a supported family with unquantised weights."""
    if backbone.config.model_type not in FAMILY:
        return False
    linears = (_base(module) for layer in backbone.layers for module in _linears(layer))
    return all(type(module) in (torch.nn.Linear, OneDNNLinear) for module in linears)


@torch.no_grad()
def last_states(
    backbone: Any, adapter: str | None, prefix: Sequence[KeysValues], parts: Sequence[SequenceBatch]
) -> list[Tensor]:
    """Computes the state at each sequence's last position.

    Args:
        prefix: keys and values of each layer, [1, H, T, d]; positions continue from T.

    Shapes: -> for each part [B, D].
    """
    last = len(backbone.layers) - 1
    longest = max(part.x.shape[1] for part in parts)
    start = prefix[0][0].shape[2]
    positions = torch.arange(start, start + longest, device=parts[0].x.device)[None]
    cos, sin = (turn[0] for turn in backbone.rotary_emb(parts[0].x, positions))  # [L, d]
    for number, layer in enumerate(backbone.layers):
        with gather_layer(layer):
            weights = _Weights(layer, adapter)
            for part in parts:
                part.x = _layer(layer, weights, prefix[number], part, cos, sin, number == last)
    return [backbone.norm(part.x)[:, 0] for part in parts]


class _Weights:
    """The weights of one layer with the adapter merged, kept while the layer runs."""

    def __init__(self, layer: Any, adapter: str | None) -> None:
        self._merged = {id(module): _merged(module, adapter) for module in _linears(layer)}

    def __call__(self, module: Any, x: Tensor) -> Tensor:
        return padded_linear(x, self._merged[id(module)], _base(module).bias)


def _layer(
    layer: Any,
    weights: _Weights,
    prefix: KeysValues,
    part: SequenceBatch,
    cos: Tensor,
    sin: Tensor,
    last: bool,
) -> Tensor:
    """Runs one layer on a batch. Shapes: -> [B, L, D], in the last layer [B, 1, D]."""
    x, attention = part.x, layer.self_attn
    normed = layer.input_layernorm(x)
    keys = _rotate(_heads(weights(attention.k_proj, normed), attention), cos, sin)
    values = _heads(weights(attention.v_proj, normed), attention)
    at = (part.lengths - 1)[:, None]  # [B, 1], last positions
    if last:
        # Only the last position of each sequence needs a query: M = 1.
        index = at[..., None].expand(-1, -1, x.shape[2])
        x, normed = x.gather(1, index), normed.gather(1, index)
        query = _rotate(_heads(weights(attention.q_proj, normed), attention), cos[at], sin[at])
        mask = torch.arange(part.x.shape[1], device=x.device) <= at[..., None]  # [B, 1, L]
    else:
        query = _rotate(_heads(weights(attention.q_proj, normed), attention), cos, sin)
        length = x.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()[None]
    attend = _attend if x.device.type == "cpu" else attend_on_device
    mixed = attend(query, keys, values, prefix, mask, attention.scaling)
    x = x + weights(attention.o_proj, mixed)
    normed = layer.post_attention_layernorm(x)
    mlp = layer.mlp
    inner = mlp.act_fn(weights(mlp.gate_proj, normed)).mul_(weights(mlp.up_proj, normed))
    return x + weights(mlp.down_proj, inner)


def _attend(
    query: Tensor, keys: Tensor, values: Tensor, prefix: KeysValues, mask: Tensor, scaling: float
) -> Tensor:
    """Attends to the prefix, by one product for all sequences, and to each sequence's own positions.

    Shapes: query [B, H, M, d], keys and values [B, G, L, d], prefix [1, G, T, d], mask [1 or B, M, L]
    -> [B, M, H * d].
    """
    batch, heads, count, size = query.shape
    groups, before = keys.shape[1], prefix[0].shape[2]
    query = query.reshape(batch, groups, -1, size) * scaling  # [B, G, H / G * M, d]
    scores = query.new_empty(*query.shape[:3], before + keys.shape[2])
    scores[..., :before] = _split_batch(_merge_batch(query) @ prefix[0][0].transpose(1, 2), batch)
    # Query heads of a group share its keys; rows of `query` are (head, position) pairs.
    own = query @ keys.transpose(2, 3)
    own = own.view(batch, groups, -1, count, keys.shape[2])
    own = own.masked_fill(~mask[:, None, None], float("-inf"))
    scores[..., before:] = own.flatten(2, 3)
    weights = scores.softmax(-1)
    mixed = _split_batch(_merge_batch(weights[..., :before]) @ prefix[1][0], batch)
    mixed = mixed + weights[..., before:] @ values
    return mixed.reshape(batch, heads, count, size).transpose(1, 2).flatten(2)


def attend_on_device(
    query: Tensor, keys: Tensor, values: Tensor, prefix: KeysValues, mask: Tensor, scaling: float
) -> Tensor:
    """Does what `_attend` does, by torch's attention, which keeps scores out of a GPU's memory.

    It copies the prefix's keys for each sequence, which is less than the scores that `_attend` writes: T x d
    numbers a head against M x (T + L).

    Shapes: as `_attend`.
    """
    batch, heads, count, _ = query.shape
    repeats, before = heads // keys.shape[1], prefix[0].shape[2]
    all_keys, all_values = (
        torch.cat([shared.expand(batch, -1, -1, -1), own], 2).repeat_interleave(repeats, 1)
        for shared, own in zip(prefix, (keys, values), strict=True)
    )
    causal = count == keys.shape[2]
    visible: Tensor = (
        causal_lower_right(count, all_keys.shape[2])
        if causal
        else F.pad(mask, (before, 0), value=True)[:, None]
    )
    mixed = F.scaled_dot_product_attention(
        query, all_keys, all_values, attn_mask=visible, scale=scaling
    )
    return mixed.transpose(1, 2).flatten(2)


def _merge_batch(x: Tensor) -> Tensor:
    """Moves the batch into the rows. Shapes: [B, G, M, d] -> [G, B * M, d]."""
    return x.transpose(0, 1).flatten(1, 2)


def _split_batch(x: Tensor, batch: int) -> Tensor:
    """Undoes `_merge_batch`. Shapes: [G, B * M, d] -> [B, G, M, d]."""
    return x.unflatten(1, (batch, -1)).transpose(0, 1)


def _heads(x: Tensor, attention: Any) -> Tensor:
    """Splits the width into heads. Shapes: [B, M, H * d] -> [B, H, M, d]."""
    return x.unflatten(2, (-1, attention.head_dim)).transpose(1, 2)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Applies rotary positions. Shapes: x [B, H, M, d], cos and sin [L, d] with L >= M, or [B, M, d]."""
    if cos.ndim == 2:
        cos, sin = cos[: x.shape[2]], sin[: x.shape[2]]
    else:
        cos, sin = cos[:, None], sin[:, None]
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], -1) * sin


def _linears(layer: Any) -> list[Any]:
    attention, mlp = layer.self_attn, layer.mlp
    projections = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    return [*projections, mlp.gate_proj, mlp.up_proj, mlp.down_proj]


def _base(module: Any) -> Any:
    return getattr(module, "base_layer", module)


def _merged(module: Any, adapter: str | None) -> Tensor:
    """Returns a linear layer's weight with the adapter's low-rank product added."""
    weight: Tensor = _base(module).weight
    if adapter is None or adapter not in getattr(module, "lora_A", {}):
        return weight
    down, up = module.lora_A[adapter].weight, module.lora_B[adapter].weight
    if weight.dtype == down.dtype:
        return torch.addmm(weight, up, down, alpha=module.scaling[adapter])
    return (weight + module.scaling[adapter] * (up @ down)).to(weight.dtype)
