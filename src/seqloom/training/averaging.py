"""Running mean of the weights during training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn

_COUNT = "count"


class WeightAverage:
    """Running mean of a module's trained parameters, over a window that grows with the training.

    The t-th addition moves the mean by 1 - (1 - 1 / t)^power towards the present weights, so that
    addition i weighs about i^(power - 1): the larger the power, the shorter the window.

    Source: Karras et al., CVPR 2024 (arXiv 2312.02696), section 3.1, eq. 1 to 3.
    """

    def __init__(self, module: nn.Module, power: float) -> None:
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._means = [p.detach().clone() for p in self._parameters]
        self._power = power
        self._count = 0

    @classmethod
    def build(cls, module: nn.Module, power: float | None) -> Self | None:
        """Returns an average of the parameters of `module`, or None if `power` is None."""
        return None if power is None else cls(module, power)

    @torch.no_grad()
    def add(self) -> None:
        """Adds the present weights to the mean."""
        self._count += 1
        share = 1.0 - (1.0 - 1.0 / self._count) ** self._power
        torch._foreach_lerp_(self._means, [p.detach() for p in self._parameters], share)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within the block, the module uses the mean as its weights; afterwards its own."""
        own = [p.detach().clone() for p in self._parameters]
        self.apply()
        try:
            yield
        finally:
            _copy(own, self._parameters)

    def apply(self) -> None:
        """Copies the mean into the module."""
        _copy(self._means, self._parameters)

    def tensors(self) -> dict[str, Tensor]:
        """Returns the state to save, by name."""
        named = {str(number): mean for number, mean in enumerate(self._means)}
        return {**named, _COUNT: torch.tensor(self._count)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Loads a state of `tensors` for the same module."""
        self._count = int(tensors[_COUNT])
        _copy([tensors[str(number)] for number in range(len(self._means))], self._means)


@torch.no_grad()
def _copy(sources: list[Tensor], targets: list[Tensor] | list[nn.Parameter]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)
