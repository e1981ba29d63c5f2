"""Shards the weights of a language model over processes, for models too large for one device.

Embeddings and the last norm stay whole on every process. After sharding, all processes must run the model
together, the same number of times.

Source: FSDP2 (`torch.distributed.fsdp.fully_shard`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from seqloom.core.errors import ConfigError


def shard_layers(backbone: Any, device: torch.device, kept: Collection[nn.Parameter]) -> None:
    """Shards the weights of every frozen layer; a layer is gathered while it computes.

    The parameters in `kept` (adapters) stay whole on every process.

    Raises:
        ConfigError: the architecture does not name its layer classes.
    """
    from torch.distributed.fsdp import fully_shard

    mesh = _mesh(device)
    for layer in _layers(backbone).values():
        # FSDP takes a layer without a wrapped parent for a whole model and would leave it gathered.
        fully_shard(layer, mesh=mesh, ignored_params=set(kept), reshard_after_forward=True)


def shard_trained_layers(
    network: Any, device: torch.device, compute: torch.dtype | None = None
) -> None:
    """Shards trained weights, and with them their gradients and optimiser moments.

    A layer is gathered for its forward and its backward pass; gradients are summed over the processes, not
    averaged, and each process keeps those of its rows. With `compute`, layers are gathered in that number
    format; otherwise autocast would keep a copy of every weight in it until the backward pass.

    Raises:
        ConfigError: the architecture does not name its layers.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = _mesh(device)
    layers = _layers(network)
    inside = {p for layer in layers.values() for p in layer.parameters()}
    outside = {p for p in network.parameters() if p not in inside}
    policy = MixedPrecisionPolicy(compute, torch.float32, cast_forward_inputs=False)
    # Wrapping a stack (`model` of "model.layers.0") too lets FSDP prefetch the next layer in order.
    stacks = {path.rpartition(".")[0].rpartition(".")[0] for path in layers}
    for module in [*layers.values(), *(network.get_submodule(path) for path in sorted(stacks))]:
        unit = fully_shard(
            module, mesh=mesh, ignored_params=outside, mp_policy=policy, reshard_after_forward=True
        )
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)  # gloo supports no other reduction


@contextmanager
def gather_layer(layer: Any) -> Iterator[None]:
    """Gathers a layer's weights within the block, for code that reads them without calling the layer."""
    sharded = hasattr(layer, "unshard")
    if sharded:
        layer.unshard()
    try:
        yield
    finally:
        if sharded:
            layer.reshard()


def _layers(network: Any) -> dict[str, nn.Module]:
    """Returns the transformer layers by path."""
    names = set(getattr(network, "_no_split_modules", None) or ())
    layers = {path: m for path, m in network.named_modules() if type(m).__name__ in names}
    if not layers:
        raise ConfigError(
            f"{type(network).__name__} does not say which of its modules are layers, so it cannot be "
            "sharded over processes; train without --fsdp"
        )
    return layers


def _mesh(device: torch.device) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device.type, (dist.get_world_size(),))
