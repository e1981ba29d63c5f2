"""What templates draw: places in percent of a chart, texts of labels and tooltips, numbers as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from seqloom.core.number_format import format_interval, format_number
from seqloom.evaluation.intervals import Score
from seqloom.reports.csv_link import CsvLink
from seqloom.reports.scales import Scale

_LABEL_HEIGHT, _LETTER, _POINT = 9.0, 2.6, 3.5
"""Of a label, in percent of a chart of about 290 by 190 pixels: its height, the width of a letter, and the
distance from the point."""


@dataclass(frozen=True)
class IntervalRow:
    """A value with its interval, on one line."""

    name: str
    slot: int
    value: str
    x: float
    low: float | None
    high: float | None
    tip: str
    filled: bool = True
    note: str = ""
    """A quiet second line under the name."""
    change: str = ""
    """The difference from the reference."""
    p: str = ""
    """The certainty of that difference, in words."""


@dataclass(frozen=True)
class IntervalChart:
    """Rows over one scale."""

    title: str
    scale: Scale
    rows: list[IntervalRow]
    csv: CsvLink | None = None
    note: str = ""


@dataclass(frozen=True)
class Point:
    """A mark of a chart with two axes."""

    name: str
    slot: int
    x: float
    y: float
    tip: str
    low: float | None = None
    high: float | None = None
    label: tuple[float, float, str] | None = None
    """Place of the name and its anchor (`start`, `middle`, `end`); None where there is no room."""


@dataclass(frozen=True)
class PointChart:
    """Points on two axes from zero, with the frontier between them."""

    title: str
    x: Scale
    y: Scale
    points: list[Point]
    frontier: list[tuple[float, float]]
    csv: CsvLink
    unit: str = ""


@dataclass(frozen=True)
class Line:
    """One run in a chart of lines."""

    name: str
    slot: int
    points: list[Point]
    label_y: float | None
    """Place of the name at the right edge; None where the line is not named."""


@dataclass(frozen=True)
class LineChart:
    """Lines over places along the horizontal axis."""

    title: str
    y: Scale
    x_marks: list[tuple[float, str]]
    lines: list[Line]
    csv: CsvLink
    x_title: str = ""
    note: str = ""
    marked: bool = field(default=True)
    """Whether each point has a mark; otherwise only the last."""

    @property
    def letters(self) -> int:
        """Length of the longest name, for which the chart leaves room."""
        return max((len(line.name) for line in self.lines if line.label_y is not None), default=0)


def score_row(
    score: Score, slot: int, scale: Scale, label: str, *, change: str = "", p: str = ""
) -> IntervalRow:
    """Places a run's own value and interval."""
    value = score.value or 0.0
    within = format_interval(score.low, score.high, 4)
    users = f"{score.users:,} users"
    return IntervalRow(
        name=score.run,
        slot=slot,
        value=format_number(score.value, 3),
        x=scale.at(value),
        low=None if score.low is None else scale.at(score.low),
        high=None if score.high is None else scale.at(score.high),
        tip=f"{score.run}: {label} {value:.4f}, 95 % interval {within}, {users}",
        change=change,
        p=p,
    )


def place_labels(points: Sequence[Point]) -> list[Point]:
    """Gives each point a label right, left, above or below it, where that touches no other; else none."""
    taken = [(p.x - 1.5, p.y - 3.0, p.x + 1.5, p.y + 3.0) for p in points]
    placed = []
    for index, point in enumerate(points):
        width = _LETTER * len(point.name) + 1.0
        around = taken[:index] + taken[index + 1 :]
        options = (
            (point.x + _POINT, point.y, "start"),
            (point.x - _POINT, point.y, "end"),
            (point.x, point.y - _LABEL_HEIGHT, "middle"),
            (point.x, point.y + _LABEL_HEIGHT, "middle"),
            (point.x + _POINT, point.y - _LABEL_HEIGHT, "start"),
            (point.x - _POINT, point.y - _LABEL_HEIGHT, "end"),
            (point.x + _POINT, point.y + _LABEL_HEIGHT, "start"),
            (point.x - _POINT, point.y + _LABEL_HEIGHT, "end"),
        )
        for x, y, anchor in options:
            left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
            box = (left, y - _LABEL_HEIGHT / 2, left + width, y + _LABEL_HEIGHT / 2)
            inside = box[0] >= -2 and box[2] <= 102 and box[1] >= -8 and box[3] <= 104
            if inside and not any(_touch(box, other) for other in around):
                placed.append(replace(point, label=(x, y, anchor)))
                taken.append(box)
                break
        else:
            placed.append(point)
    return placed


def spread_labels(ends: Sequence[float], distance: float = _LABEL_HEIGHT) -> list[float]:
    """Moves labels at the right edge apart, as little as needed; returns their places in the same order."""
    order = sorted(range(len(ends)), key=lambda n: ends[n])
    places = [0.0] * len(ends)
    below = -distance
    for n in order:
        places[n] = max(ends[n], below + distance)
        below = places[n]
    limit = 100.0
    for n in reversed(
        order
    ):  # labels that are pushed out at the bottom move the ones above them up
        places[n] = min(places[n], limit)
        limit = places[n] - distance
    return [round(place, 2) for place in places]


def _touch(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float]
) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
