"""Work and memory of a computation, counted before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

FLOAT_BYTES = 4


@dataclass(frozen=True)
class ComputeCost:
    """Work and memory of a training step or of a part of it, forward and backward."""

    products: float = 0.0
    """Floating-point operations of matrix products."""
    elements: float = 0.0
    """Numbers written by element-wise operations whose data stay in a cache."""
    logits: float = 0.0
    """Entries of a softmax over the catalogue, without their products."""
    moved: float = 0.0
    """Bytes read and written of arrays larger than any cache: weights, gradients, moments."""
    gathered: float = 0.0
    """Rows read from, or added to, scattered places of a table."""
    calls: float = 0.0
    """Number of tensor operations; each takes some microseconds, whatever its size."""
    held: float = 0.0
    """Bytes held until the gradients are known."""

    def __add__(self, other: ComputeCost) -> ComputeCost:
        return ComputeCost(
            *(getattr(self, f.name) + getattr(other, f.name) for f in fields(ComputeCost))
        )

    def __mul__(self, times: float) -> ComputeCost:
        return ComputeCost(*(getattr(self, f.name) * times for f in fields(ComputeCost)))


@dataclass(frozen=True)
class BatchShape:
    """The size of one training batch."""

    rows: int
    """B."""
    length: int
    """L, of the longest row."""
    targets: float
    """M, number of positions to be predicted; the mean where they are drawn."""

    @property
    def positions(self) -> int:
        """B x L, padding included."""
        return self.rows * self.length


@dataclass(frozen=True)
class Rates:
    """Speed of a machine: seconds for one unit of each kind of work."""

    products: float
    elements: float
    logits: float
    moved: float
    gathered: float
    calls: float

    def seconds(self, cost: ComputeCost) -> float:
        """Returns the time of the work, its kinds one after the other."""
        return sum(getattr(cost, f.name) * getattr(self, f.name) for f in fields(Rates))

    def scaled(self, factor: float) -> Self:
        """Returns the rates multiplied by `factor`."""
        return type(self)(*(getattr(self, f.name) * factor for f in fields(Rates)))
