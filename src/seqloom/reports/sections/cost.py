"""Cost against accuracy: training time and the time of one request."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seqloom.core.number_format import (
    format_duration,
    format_milliseconds,
    format_number,
    format_percent,
)
from seqloom.evaluation.intervals import Score
from seqloom.evaluation.metrics import metric_label
from seqloom.evaluation.record import RunRecord
from seqloom.reports.charts import Point, PointChart, place_labels
from seqloom.reports.csv_link import CsvLink
from seqloom.reports.data import ReportData
from seqloom.reports.marks import Marks
from seqloom.reports.scales import Scale, scale_of

_UNITS = (("s", 1.0, 300.0), ("min", 60.0, 18_000.0), ("h", 3600.0, float("inf")))
_MOST_TIMES = 100
"""Above this multiple, times are given instead."""
_SAME = (0.8, 1.25)
"""Ratios of times that count as the same."""


def cost_charts(data: ReportData, marks: Marks) -> list[PointChart]:
    """Returns accuracy over training time and over the time of a request, as far as they are known."""
    longest = max((s.total_train_seconds or 0.0 for s in data.systems), default=0.0)
    unit, size, _ = next(each for each in _UNITS if longest < each[2])
    charts = [
        _chart(
            data,
            marks,
            ("Training time", unit, "train"),
            lambda s: None if s.total_train_seconds is None else s.total_train_seconds / size,
            lambda s: f"trains in {format_duration(s.total_train_seconds)}",
        ),
        _chart(
            data,
            marks,
            ("One request", "ms", "request"),
            lambda s: s.latency_ms,
            lambda s: f"answers in {format_milliseconds(s.latency_ms)}",
        ),
    ]
    return [chart for chart in charts if chart is not None]


def _chart(
    data: ReportData,
    marks: Marks,
    what: tuple[str, str, str],
    cost: Callable[[RunRecord], float | None],
    describe: Callable[[RunRecord], str],
) -> PointChart | None:
    metric = data.comparison.metric
    title, unit, name = what
    known = [(s, value) for s in data.systems if (value := cost(s)) is not None]
    if len(known) < 2:
        return None
    scores = {s.name: data.comparison.score(s.name, metric) for s, _ in known}
    x = scale_of((value for _, value in known), most_ticks=4)
    y = scale_of((s.high for s in scores.values() if s is not None), most_ticks=3)
    points = [
        _point(system, value, scores[system.name], (x, y), marks, describe)
        for system, value in known
    ]
    rows = [(s.name, value, s.metrics.get(metric)) for s, value in known]
    columns = ("run", f"{name}_{unit}", metric)
    return PointChart(
        f"{title}, {unit}",
        x,
        y,
        place_labels(sorted(points, key=lambda p: p.slot == 0)),
        _frontier(points),
        CsvLink(f"cost-{name}", columns, rows),
        unit,
    )


def _point(
    system: RunRecord,
    cost: float,
    score: Score | None,
    scales: tuple[Scale, Scale],
    marks: Marks,
    describe: Callable[[RunRecord], str],
) -> Point:
    x, y = scales
    low = None if score is None else score.low
    high = None if score is None else score.high
    value = None if score is None else score.value
    label = metric_label(score.metric) if score is not None else ""
    return Point(
        name=system.name,
        slot=marks[system.name],
        x=x.at(cost),
        y=round(100.0 - y.at(value or 0.0), 2),
        low=None if low is None else round(100.0 - y.at(low), 2),
        high=None if high is None else round(100.0 - y.at(high), 2),
        tip=f"{system.name}: {label} {format_number(value)}, {describe(system)}",
    )


def _frontier(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Returns the points that no other one beats in both accuracy and cost, the cheapest first."""
    best, kept = float("inf"), []
    for point in sorted(points, key=lambda p: (p.x, p.y)):
        if point.y < best:  # y counts from above
            kept.append((point.x, point.y))
            best = point.y
    return kept


def cost_heading(data: ReportData, marks: Marks) -> str:
    """States what the run under discussion costs, as multiples of the reference's cost."""
    known = {system.name: system for system in data.systems}
    ours, theirs = known[marks.subject], known[marks.reference]
    training = _ratio(ours.total_train_seconds, theirs.total_train_seconds)
    answer = _ratio(ours.latency_ms, theirs.latency_ms)
    parts = []
    if training is not None and training >= _MOST_TIMES:
        return (
            f"{ours.name} trains in {format_duration(ours.total_train_seconds)}, "
            f"{theirs.name} in {format_duration(theirs.total_train_seconds)}"
        )
    if training is not None:
        said = ("takes {} times as long to train", "trains in {} of the time", "trains as fast")
        link = "of" if training <= _SAME[0] else "as"
        parts.append(f"{_compare(training, *said)} {link} {theirs.name}")
    if answer is not None:
        said = ("takes {} times as long to answer", "answers in {} of the time", "answers as fast")
        parts.append(_compare(answer, *said))
    return f"{ours.name} {' and '.join(parts)}" if parts else "What the runs cost"


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours is not None and theirs else None


def _compare(ratio: float, more: str, less: str, same: str) -> str:
    if _SAME[0] < ratio < _SAME[1]:
        return same
    if ratio >= 1:
        return more.format(f"{ratio:,.0f}" if ratio >= 9.95 else f"{ratio:.1f}")
    return less.format(format_percent(ratio, 0))
