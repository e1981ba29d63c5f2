"""The mean of the weights that training passes through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn

_COUNT = "count"


class WeightAverage:
    """A running mean of a module's trained parameters, over a window that grows with the training.

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
    def over(cls, module: nn.Module, power: float | None) -> Self | None:
        """The average of `module`'s parameters, or None where no power is given."""
        return None if power is None else cls(module, power)

    @torch.no_grad()
    def add(self) -> None:
        """Take the present weights into the mean."""
        self._count += 1
        share = 1.0 - (1.0 - 1.0 / self._count) ** self._power
        torch._foreach_lerp_(self._means, [p.detach() for p in self._parameters], share)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The module has the mean as its weights within the block, and its own ones again after it."""
        own = [p.detach().clone() for p in self._parameters]
        self.apply()
        try:
            yield
        finally:
            _copy(own, self._parameters)

    def apply(self) -> None:
        """Give the module the mean as its weights."""
        _copy(self._means, self._parameters)

    def tensors(self) -> dict[str, Tensor]:
        """The state to be saved, by name."""
        named = {str(number): mean for number, mean in enumerate(self._means)}
        return {**named, _COUNT: torch.tensor(self._count)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` gave for the same module."""
        self._count = int(tensors[_COUNT])
        _copy([tensors[str(number)] for number in range(len(self._means))], self._means)


@torch.no_grad()
def _copy(sources: list[Tensor], targets: list[Tensor] | list[nn.Parameter]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)
