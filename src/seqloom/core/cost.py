"""What a piece of work asks of a machine, counted before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

FLOAT_BYTES = 4


@dataclass(frozen=True)
class ComputeCost:
    """Work and memory of one training step, or of a part of it; both directions are counted."""

    products: float = 0.0
    """Floating-point operations of matrix products."""
    elements: float = 0.0
    """Numbers that element-wise work writes, where they stay in a cache."""
    logits: float = 0.0
    """Entries of a softmax over the catalogue, beside their products."""
    moved: float = 0.0
    """Bytes read and written of arrays that no cache holds: weights, gradients, moments."""
    gathered: float = 0.0
    """Rows taken from, or added to, places all over a table."""
    calls: float = 0.0
    """Tensor operations: each costs some microseconds, however little it does."""
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
    """M, positions to be predicted; a mean where they are drawn."""

    @property
    def positions(self) -> int:
        """B x L, padding included."""
        return self.rows * self.length


@dataclass(frozen=True)
class Rates:
    """What a machine gives: seconds for one unit of each kind of work."""

    products: float
    elements: float
    logits: float
    moved: float
    gathered: float
    calls: float

    def seconds(self, cost: ComputeCost) -> float:
        """Time of the work, one part after the other."""
        return sum(getattr(cost, f.name) * getattr(self, f.name) for f in fields(Rates))

    def scaled(self, factor: float) -> Self:
        """Every rate times `factor`."""
        return type(self)(*(getattr(self, f.name) * factor for f in fields(Rates)))
