"""Counts of a training step, to compare with the costs that a system declares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from seqloom.core.cost import Rates

RATES = Rates(1e-10, 1e-10, 1e-9, 1e-10, 1e-7, 1e-5)


def bytes_kept(phase: Any, batch: Any, frozen: Iterable[Tensor] = ()) -> int:
    """Returns the bytes that autograd keeps of a step until its gradients are known, weights left out."""
    weights = {weight.untyped_storage().data_ptr() for weight in frozen}
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if not isinstance(tensor, torch.nn.Parameter) and storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        phase.loss(batch)
    return sum(kept.values())
