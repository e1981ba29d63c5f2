"""A training step: loss, gradients, AdamW."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from seqloom.core.phase import Optimisation, Phase
from seqloom.distributed.dtensors import is_sharded
from seqloom.distributed.processes import ALONE, Processes
from seqloom.training.clipping import clip_gradients

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Stepper:
    """Takes the steps of one phase with one optimiser."""

    phase: Phase
    optimiser: torch.optim.Optimizer
    device: torch.device
    precision: Precision = "auto"
    processes: Processes = ALONE

    @classmethod
    def of(
        cls,
        phase: Phase,
        device: torch.device,
        precision: Precision = "auto",
        processes: Processes = ALONE,
    ) -> Self:
        """Returns a stepper with a new optimiser."""
        optimiser = build_optimiser(phase.module, phase.optimisation, device)
        return cls(phase, optimiser, device, precision, processes)

    def __call__(self, batch: Any) -> dict[str, Tensor]:
        """Trains on a batch, or this process's share of one; returns the loss parts before the step."""
        phase, processes = self.phase, self.processes
        self.optimiser.zero_grad(set_to_none=True)
        with self._autocast():
            parts = processes.add_up(phase.loss(batch))
        parts["loss"].backward()
        parts = processes.sum_gradients(phase.module, parts)
        if phase.optimisation.clip_norm is not None:
            clip_gradients(phase.module, phase.optimisation.clip_norm, processes)
        self.optimiser.step()
        # Without its graph, which would keep nodes of this step alive during the next.
        return {name: part.detach() for name, part in parts.items()}

    def set_rate(self, rate: float) -> None:
        """Sets the learning rate of the next steps, in place where it is a tensor on the device."""
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _autocast(self) -> AbstractContextManager[Any]:
        mixed = self.precision == "bf16" or (
            self.precision == "auto" and self.device.type == "cuda"
        )
        return torch.autocast(self.device.type, torch.bfloat16) if mixed else nullcontext()


def on_device(batch: Any, device: torch.device) -> Any:
    """Moves the batch to `device`, if it has a method `to`."""
    return batch.to(device) if hasattr(batch, "to") else batch


def build_optimiser(
    module: nn.Module, settings: Optimisation, device: torch.device
) -> torch.optim.Optimizer:
    """Builds AdamW without weight decay on biases, norms and other one-dimensional parameters.

    On a CUDA device all that a step changes or reads is on the device, so that it can be recorded; not so for
    sharded parameters, whose steps are not.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    # One fused call cannot step sharded and whole parameters together.
    groups = [
        {
            "params": [p for p in trained if (p.ndim >= 2, is_sharded(p)) == (matrix, spread)],
            "weight_decay": decay,
        }
        for matrix, decay in ((True, settings.weight_decay), (False, 0.0))
        for spread in (False, True)
    ]
    on_cuda = device.type == "cuda" and not any(map(is_sharded, trained))
    rate: float | Tensor = settings.learning_rate
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=torch.tensor(rate, device=device) if on_cuda else rate,
        fused=device.type in ("cpu", "cuda"),
        capturable=on_cuda,
    )
