"""Tensors of which each process holds its rows alone: DTensors, as FSDP2 makes of a model's weights.

Most models have none; then nothing here costs anything, and no part of torch is loaded for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds only its rows of the tensor."""
    return hasattr(tensor, "placements")


def local_rows(tensor: Tensor) -> Tensor:
    """The rows that this process holds, in the same memory; of a whole tensor all.

    Shapes: [R, ...] -> [R', ...].
    """
    spread: Any = tensor
    rows: Tensor = spread.to_local() if is_sharded(tensor) else tensor
    return rows


def gather_tensor(tensor: Tensor) -> Tensor:
    """All rows. All processes must ask for the same tensors in the same order."""
    spread: Any = tensor
    whole: Tensor = spread.full_tensor() if is_sharded(tensor) else tensor
    return whole


def gather_state(state: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """All rows of every tensor in main memory, gathered one by one; nothing where `keep` is false."""
    found = {}
    for name, tensor in state.items():
        whole = gather_tensor(tensor.detach())
        if keep:
            found[name] = whole.cpu()
    return found


def shard_like(whole: Tensor, like: Tensor | None) -> Tensor:
    """The rows of a tensor that all processes have, divided as `like` is; without an exchange."""
    if like is None or not is_sharded(like):
        return whole
    from torch.distributed.tensor import distribute_tensor

    model: Any = like
    whole = whole.to(model.device)
    return distribute_tensor(whole, model.device_mesh, model.placements, src_data_rank=None)
