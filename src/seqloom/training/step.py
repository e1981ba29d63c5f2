"""One step of training: loss, gradients, AdamW."""

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
    """Steps of one phase, all with one optimiser."""

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
        """With an optimiser at its start."""
        optimiser = build_optimiser(phase.module, phase.optimisation, device)
        return cls(phase, optimiser, device, precision, processes)

    def __call__(self, batch: Any) -> dict[str, Tensor]:
        """Step on a batch, or this process's share of one; the parts of the loss before the step."""
        phase, processes = self.phase, self.processes
        self.optimiser.zero_grad(set_to_none=True)
        with self._autocast():
            parts = processes.add_up(phase.loss(batch))
        parts["loss"].backward()
        parts = processes.sum_gradients(phase.module, parts)
        if phase.optimisation.clip_norm is not None:
            clip_gradients(phase.module, phase.optimisation.clip_norm, processes)
        self.optimiser.step()
        return parts

    def set_rate(self, rate: float) -> None:
        """The step size from here on."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def _autocast(self) -> AbstractContextManager[Any]:
        wanted = self.precision == "bf16" or (
            self.precision == "auto" and self.device.type == "cuda"
        )
        return torch.autocast(self.device.type, torch.bfloat16) if wanted else nullcontext()


def on_device(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on `device`, where it can be moved."""
    return batch.to(device) if hasattr(batch, "to") else batch


def build_optimiser(
    module: nn.Module, settings: Optimisation, device: torch.device
) -> torch.optim.Optimizer:
    """AdamW; biases, norms and one-dimensional parameters are not decayed."""
    trained = [p for p in module.parameters() if p.requires_grad]
    # Spread and whole parameters cannot be stepped in one fused call.
    groups = [
        {
            "params": [p for p in trained if (p.ndim >= 2, is_sharded(p)) == (matrix, spread)],
            "weight_decay": decay,
        }
        for matrix, decay in ((True, settings.weight_decay), (False, 0.0))
        for spread in (False, True)
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        fused=device.type in ("cpu", "cuda"),
    )
