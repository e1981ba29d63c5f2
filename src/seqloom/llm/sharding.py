"""The weights of a language model spread over processes, for one that is too large for each.

Embeddings and the last norm stay whole on every process. From here on all processes have to run the
model together, the same number of times.

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
    """Leave each process its rows of every frozen layer's weights; a layer is gathered while it computes.

    The parameters in `kept` (adapters) stay whole on every process.

    Raises:
        ConfigError: the architecture does not name its layers.
    """
    from torch.distributed.fsdp import fully_shard

    mesh = _mesh(device)
    for layer in _layers(backbone).values():
        # A layer that nothing surrounds would else stay gathered: FSDP takes it for a whole model.
        fully_shard(layer, mesh=mesh, ignored_params=set(kept), reshard_after_forward=True)


def shard_trained_layers(
    network: Any, device: torch.device, compute: torch.dtype | None = None
) -> None:
    """Leave each process its rows of the trained weights, and so of their gradients and moments.

    A layer is gathered for its forward and its backward pass; its gradients are summed over the
    processes, not averaged, and each keeps those of its rows. With `compute` layers are gathered in that
    format; else autocast would keep a copy of every weight in it until the backward pass.

    Raises:
        ConfigError: the architecture does not name its layers.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = _mesh(device)
    layers = _layers(network)
    inside = {p for layer in layers.values() for p in layer.parameters()}
    outside = {p for p in network.parameters() if p not in inside}
    policy = MixedPrecisionPolicy(compute, torch.float32, cast_forward_inputs=False)
    # A stack (`model` of "model.layers.0") knows the order of its layers: the next one is gathered in time.
    stacks = {path.rpartition(".")[0].rpartition(".")[0] for path in layers}
    for module in [*layers.values(), *(network.get_submodule(path) for path in sorted(stacks))]:
        unit = fully_shard(
            module, mesh=mesh, ignored_params=outside, mp_policy=policy, reshard_after_forward=True
        )
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)  # gloo has no other kind


@contextmanager
def gather_layer(layer: Any) -> Iterator[None]:
    """The layer has all its weights within the block, for whoever reads them without calling it."""
    spread = hasattr(layer, "unshard")
    if spread:
        layer.unshard()
    try:
        yield
    finally:
        if spread:
            layer.reshard()


def _layers(network: Any) -> dict[str, nn.Module]:
    """The layers by their path."""
    names = set(getattr(network, "_no_split_modules", None) or ())
    found = {path: m for path, m in network.named_modules() if type(m).__name__ in names}
    if not found:
        raise ConfigError(
            f"{type(network).__name__} does not say which of its modules are layers, so it cannot be "
            "spread over processes; train without --shard"
        )
    return found


def _mesh(device: torch.device) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device.type, (dist.get_world_size(),))
