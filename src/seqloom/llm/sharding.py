"""The weights of a frozen language model spread over processes, for one that is too large for each."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from seqloom.core.errors import ConfigError


def shard_layers(backbone: Any, device: torch.device, kept: Collection[nn.Parameter]) -> None:
    """Leave each process its part of every layer's weights; a layer is gathered while it computes.

    Embeddings, the last norm and the parameters in `kept` (adapters) stay whole on every process. From
    here on all processes have to run the model together, the same number of times.

    Source: FSDP2 (`torch.distributed.fsdp.fully_shard`).

    Raises:
        ConfigError: the architecture does not name its layers.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    names = set(getattr(backbone, "_no_split_modules", None) or ())
    layers = [module for module in backbone.modules() if type(module).__name__ in names]
    if not layers:
        raise ConfigError(
            f"{type(backbone).__name__} does not say which of its modules are layers, so it cannot be "
            "spread over processes; train without --shard"
        )
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params=set(kept))
