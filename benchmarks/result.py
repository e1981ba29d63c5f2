"""Results of a benchmark."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One quantity, measured several times in one process."""

    name: str
    unit: str
    values: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Largest minus smallest value."""
        return max(self.values) - min(self.values)


@dataclass(frozen=True)
class Result:
    """A quantity of ours beside a yardstick; `ratio` is yardstick / ours."""

    title: str
    ours: Measurement
    yardstick: Measurement | None = None
    missing: str = ""
    """Why there is no yardstick."""
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return None if self.yardstick is None else self.yardstick.median / self.ours.median

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> Result:
        ours = Measurement(**raw["ours"])
        yardstick = Measurement(**raw["yardstick"]) if raw["yardstick"] else None
        return Result(raw["title"], ours, yardstick, raw["missing"], raw["notes"])


@dataclass(frozen=True)
class Part:
    """What one part of the benchmarks measured."""

    results: list[Result]
    quick: bool = False
    """Whether only a part of the work was done and scaled."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> Part:
        return Part([Result.from_dict(each) for each in raw["results"]], raw["quick"])
