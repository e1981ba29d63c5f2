"""Cost of a pass through a frozen language model with adapters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from seqloom.core.cost import FLOAT_BYTES, ComputeCost
from seqloom.llm.plugins.adapters import Adapter


def adapter_cost(
    adapter: Adapter, rows: int, length: int, before: int = 0, *, recomputed: bool = False
) -> ComputeCost:
    """Counts the work of B x L vectors after a shared prefix, forward and backward to vectors and adapter.

    Assumes layers as in Llama: two norms, attention, a gated feed-forward part. Frozen weights get no
    gradient, but their inputs are kept.

    Args:
        before: number of prefix tokens, which are read once for all rows and attended to by every row.
        recomputed: layers keep their inputs alone and are computed again, but for those of the prefix.
    """
    backbone: Any = adapter.base.backbone
    config = backbone.config
    width, layers = config.hidden_size, config.num_hidden_layers
    inner = getattr(config, "intermediate_size", 4 * width)
    maps = {n: m.weight for n, m in backbone.named_modules() if isinstance(m, nn.Linear)}
    own = {id(weight) for weight in adapter.parameters()}
    frozen = sum(weight.numel() for name, weight in maps.items() if "lora_" not in name)
    trained = sum(weight.numel() for weight in maps.values() if id(weight) in own)
    # The input of an adapter's first map passes its own dropout, so a second copy is kept.
    read = sum(w.shape[1] for name, w in maps.items() if id(w) in own and "lora_A" in name)
    positions = rows * length + before
    pairs = rows * length * (length + before) + before**2
    # The backward pass ends at the first adapter, and only keys of the last layer's prefix tokens are used.
    back = before * (layers - 1) / layers if own else 0
    inside = layers * (10 * width + 4 * inner) + 2 * read  # numbers that a position's layers keep
    mixed = 2 * FLOAT_BYTES * layers * rows * (length + before) * width
    cost = ComputeCost(
        products=positions * 2 * (frozen + trained)
        + (rows * length + back) * (2 * frozen + 4 * trained)
        + 12 * layers * pairs * width,
        elements=positions * (layers * (78 * width + 18 * inner) + 6 * read),
        calls=250 * layers + 100,
        held=FLOAT_BYTES * positions * inside + mixed,
    )
    if not recomputed:
        return cost
    again = ComputeCost(
        products=2 * rows * length * (frozen + trained)
        + 4 * layers * rows * length * (length + before) * width,
        elements=cost.elements / 2,
        calls=80 * layers,
    )
    # The inputs of all layers, and one layer that is computed again.
    own = FLOAT_BYTES * rows * length * (layers * width + inside / layers) + mixed / layers
    return replace(cost + again, held=own + FLOAT_BYTES * before * inside)
