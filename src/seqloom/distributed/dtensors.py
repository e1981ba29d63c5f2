"""Sharded tensors: DTensors of which each process holds its own rows, as FSDP2 makes of a model's weights.

On a model without sharded weights these functions cost nothing and load no further part of torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Returns whether this process holds only some rows of the tensor."""
    return hasattr(tensor, "placements")


def local_rows(tensor: Tensor) -> Tensor:
    """Returns the rows that this process holds, without a copy; all rows of a whole tensor.

    Shapes: [R, ...] -> [R', ...].
    """
    sharded: Any = tensor
    rows: Tensor = sharded.to_local() if is_sharded(tensor) else tensor
    return rows


def gather_tensor(tensor: Tensor) -> Tensor:
    """Returns all rows. All processes must call it for the same tensors in the same order."""
    sharded: Any = tensor
    whole: Tensor = sharded.full_tensor() if is_sharded(tensor) else tensor
    return whole


def gather_state(state: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Gathers every tensor, one by one, into main memory; returns an empty state where `keep` is false."""
    whole_state = {}
    for name, tensor in state.items():
        whole = gather_tensor(tensor.detach())
        if keep:
            whole_state[name] = whole.cpu()
    return whole_state


def shard_like(whole: Tensor, like: Tensor | None) -> Tensor:
    """Shards a tensor that all processes hold in the way `like` is sharded, without communication."""
    if like is None or not is_sharded(like):
        return whole
    from torch.distributed.tensor import distribute_tensor

    model: Any = like
    whole = whole.to(model.device)
    return distribute_tensor(whole, model.device_mesh, model.placements, src_data_rank=None)
