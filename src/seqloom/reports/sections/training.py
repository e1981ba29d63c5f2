"""Training: the validation metric by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqloom.core.number_format import format_number
from seqloom.evaluation.metrics import metric_label
from seqloom.reports.charts import Line, LineChart, Point
from seqloom.reports.csv_link import CsvLink
from seqloom.reports.data import ReportData, SystemResult
from seqloom.reports.marks import Marks
from seqloom.reports.scales import nice_step, scale_of
from seqloom.reports.sections.gains import name_lines

VALID_METRIC = "ndcg@10"
_MOST_POINTS = 60
"""Points of a line; longer logs are thinned."""


def training_chart(data: ReportData, marks: Marks) -> LineChart | None:
    """Returns the validation curves of the runs that have some; None if no run has."""
    curves = {s.name: _curve(s) for s in data.systems}
    curves = {name: curve for name, curve in curves.items() if curve}
    if not curves:
        return None
    last = max(epoch for curve in curves.values() for epoch, _ in curve)
    step = max(1, round(nice_step(max(last - 1, 1) / 6)))
    at = {epoch: round(100.0 * (epoch - 1) / max(last - 1, 1), 2) for epoch in range(1, last + 1)}
    scale = scale_of((value for curve in curves.values() for _, value in curve), most_ticks=4)
    lines = []
    for name, curve in sorted(curves.items(), key=lambda each: marks[each[0]] > 0):
        points = [
            Point(
                name,
                marks[name],
                at[epoch],
                round(100.0 - scale.at(value), 2),
                f"{name}: validation {metric_label(VALID_METRIC)} {format_number(value)} "
                f"in epoch {epoch}",
            )
            for epoch, value in _thinned(curve)
        ]
        lines.append(Line(name, marks[name], points, None))
    rows = [
        (s.name, n, row.get("phase", ""), _loss(row), _valid(row))
        for s in data.systems
        for n, row in enumerate(s.log, start=1)
    ]
    return LineChart(
        title=f"Validation {metric_label(VALID_METRIC)} by epoch",
        y=scale,
        x_marks=[(at[e], str(e)) for e in range(1, last + 1) if e == 1 or e % step == 0],
        lines=name_lines(lines),
        csv=CsvLink("training", ("run", "epoch", "phase", "loss", f"valid {VALID_METRIC}"), rows),
        x_title="epoch",
        marked=False,
    )


def training_heading(data: ReportData) -> str:
    """States which run was best on validation."""
    best = {s.name: max(value for _, value in curve) for s in data.systems if (curve := _curve(s))}
    name = max(best, key=lambda n: best[n])
    return f"On validation, {name} was ahead"


def _curve(system: SystemResult) -> list[tuple[int, float]]:
    """Returns epoch and validation metric; phases follow one another."""
    return [
        (n, value)
        for n, row in enumerate(system.log, start=1)
        if (value := _valid(row)) is not None
    ]


def _thinned(curve: list[tuple[int, float]]) -> list[tuple[int, float]]:
    step = max(1, len(curve) // _MOST_POINTS)
    best = max(range(len(curve)), key=lambda n: curve[n][1])
    return [each for n, each in enumerate(curve) if n % step == 0 or n in (best, len(curve) - 1)]


def _valid(row: Mapping[str, Any]) -> float | None:
    return (row.get("valid") or {}).get(VALID_METRIC)


def _loss(row: Mapping[str, Any]) -> float | None:
    return (row.get("train") or {}).get("loss")
