"""Axes of charts: round ticks, and places in percent of the axis, so that a chart has no width of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """A linear axis from `low` to `high` with labelled ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Returns the place of a value in percent of the axis."""
        share = (value - self.low) / (self.high - self.low)
        return round(100.0 * min(max(share, 0.0), 1.0), 2)

    @property
    def marks(self) -> list[tuple[float, str]]:
        """The ticks as place and label."""
        return [(self.at(tick), tick_label(tick)) for tick in self.ticks]


def scale_of(values: Iterable[float | None], *, most_ticks: int = 5) -> Scale:
    """Returns an axis that contains 0 and all values."""
    known = [value for value in values if value is not None]
    low, high = min([0.0, *known]), max([0.0, *known])
    if low == high:
        return Scale(0.0, 1.0, (0.0, 1.0))
    step = nice_step((high - low) / most_ticks)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(n * step, 10) for n in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], ticks)


def nice_step(least: float) -> float:
    """Returns the smallest of 1, 2, 5, 10, ... times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def tick_label(value: float) -> str:
    """Formats a tick with as few digits as it has."""
    return f"{value:,.10g}".replace("-", "\N{MINUS SIGN}")
