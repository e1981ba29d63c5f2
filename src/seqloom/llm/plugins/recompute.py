"""Gradient checkpointing of a frozen language model that several adapters share.

transformers has it too, but for models in training mode and without keys and values of a prefix: it would
drop them. A shared base is always in evaluation mode, and histories follow a cached instruction.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from seqloom.core.errors import ConfigError


@contextmanager
def recompute_layers(
    backbone: Any, activate: Callable[[], AbstractContextManager[Any]]
) -> Iterator[None]:
    """Within the block, each layer keeps its input alone; the backward pass computes the rest again.

    Gradients are the same: random draws are repeated, and so is the state of the cache.

    Args:
        activate: makes the adapter active, with which a layer is computed again.

    Raises:
        ConfigError: the model does not mark its layers.

    Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"; `torch.utils.checkpoint`.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [part for part in backbone.modules() if isinstance(part, GradientCheckpointingLayer)]
    if not layers:
        raise ConfigError(
            f"{type(backbone).__name__} does not mark its layers, so they cannot be computed again; set "
            "llm.gradient_checkpointing=false"
        )
    for layer in layers:
        layer.forward = _recomputed(layer.forward, activate)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _recomputed(
    forward: Callable[..., Any], activate: Callable[[], AbstractContextManager[Any]]
) -> Callable[..., Any]:
    def call(states: Tensor, *arguments: Any, **options: Any) -> Any:
        def compute(states: Tensor) -> Any:
            own = options
            if options.get("past_key_values") is not None:
                own = {**options, "past_key_values": _copied(options["past_key_values"])}
            with activate():
                return forward(states, *arguments, **own)

        return checkpoint(compute, states, use_reentrant=False)

    return call


def _copied(cache: Any) -> Any:
    """Returns a cache with the same tensors, to which a layer may append without changing the other."""
    own = copy.copy(cache)
    own.layers = [copy.copy(layer) for layer in cache.layers]
    return own
