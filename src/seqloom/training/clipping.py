"""Clipping of the norm of all gradients."""

from __future__ import annotations

import torch
from torch import nn

from seqloom.distributed.dtensors import is_sharded, local_rows
from seqloom.distributed.processes import Processes


@torch.no_grad()
def clip_gradients(module: nn.Module, most: float, processes: Processes) -> None:
    """Scales the gradients of `module` so that their norm is at most `most`.

    Each process has the gradients of its own rows of sharded parameters, whose squares add up; all other
    gradients are equal on all processes.
    """
    parameters = [p for p in module.parameters() if p.grad is not None]
    if not any(map(is_sharded, parameters)):
        nn.utils.clip_grad_norm_(parameters, most)
        return
    rows = [local_rows(p.grad) for p in parameters if p.grad is not None and is_sharded(p)]
    whole = [p.grad for p in parameters if p.grad is not None and not is_sharded(p)]
    squares = processes.sum(nn.utils.get_total_norm(rows).square())
    norm = (squares + nn.utils.get_total_norm(whole).square()).sqrt()
    # As `clip_grad_norm_` does.
    torch._foreach_mul_([*rows, *whole], (most / (norm + 1e-6)).clamp(max=1.0))
