"""Who gains: one metric by group of users, by popularity of the next item and by length of the history."""

from __future__ import annotations

from typing import Literal

from seqloom.core.number_format import format_number, join_names
from seqloom.evaluation.metrics import metric_label
from seqloom.evaluation.sentences import is_shown
from seqloom.evaluation.wording import group_label, in_group
from seqloom.reports.charts import IntervalChart, Line, LineChart, Point, score_row, spread_labels
from seqloom.reports.csv_link import CsvLink
from seqloom.reports.data import BinResult, ReportData, SystemResult
from seqloom.reports.marks import Marks
from seqloom.reports.scales import Scale, scale_of

SHOWN = (
    "tail_item",
    "head_item",
    "tail_user",
    "head_user",
    "cold_item",
    "new_user",
    "known_user",
    "repeat_target",
    "new_target",
)
"""Groups of the small multiples, in order."""


def group_charts(data: ReportData, marks: Marks) -> list[IntervalChart]:
    """Returns a small chart for each group that has users, all on one scale."""
    comparison = data.comparison
    metric = comparison.metric
    # With seen items masked, a repeated item is a miss for every run.
    hidden = "repeat_target" if comparison.protocol.masked else ""
    scores = [
        s
        for s in comparison.scores
        if s.metric == metric and s.group in SHOWN and s.users and s.group != hidden
    ]
    present = [group for group in SHOWN if any(s.group == group for s in scores)]
    scale = scale_of((value for s in scores for value in (s.value, s.high)), most_ticks=3)
    charts = []
    for group in present:
        of_group = [s for s in scores if s.group == group]
        rows = [
            score_row(s, marks[s.run], scale, f"{metric_label(metric)} {in_group(group)}")
            for s in of_group
        ]
        table = [(s.run, group, s.users, s.value, s.low, s.high) for s in of_group]
        csv = CsvLink(f"{group}-{metric}", ("run", "group", "users", metric, "low", "high"), table)
        note = f"{of_group[0].users:,} users{_meaning(group, data)}"
        charts.append(IntervalChart(group_label(group).capitalize(), scale, rows, csv, note))
    return charts


def _meaning(group: str, data: ReportData) -> str:
    """Explains a group, where its name does not."""
    item = user = "?"
    if data.thresholds is not None:
        item, user = f"{data.thresholds.item:,}", f"{data.thresholds.user:,}"
    return {
        "tail_item": f": next item under {item} events in training",
        "head_item": f": next item {item} events or more",
        "tail_user": f": under {user} events in training",
        "head_user": f": {user} events or more",
        "cold_item": ": next item without events in training",
        "repeat_target": ": the next item is in their history",
    }.get(group, "")


def gains_heading(data: ReportData, marks: Marks) -> str:
    """States in which groups the run under discussion is shown to differ from the reference."""
    comparison = data.comparison
    tested = [
        d
        for group in SHOWN
        if (d := comparison.difference(marks.subject, comparison.metric, group)) and d.p is not None
    ]
    if not tested:
        return "By group of users"
    shown = [d for d in tested if is_shown(d, comparison.level)]
    above = [in_group(d.group) for d in shown if (d.difference or 0.0) > 0]
    below = [in_group(d.group) for d in shown if (d.difference or 0.0) <= 0]
    names = f"{marks.subject} and {marks.reference}"
    if not shown:
        return f"In none of the {len(tested)} groups are {names} shown to differ"
    parts = []
    if above:
        parts.append(f"above {marks.reference} {join_names(above)}")
    if below:
        parts.append(f"below {'it' if above else marks.reference} {join_names(below)}")
    return f"{marks.subject} is {' and '.join(parts)}"


def bin_chart(data: ReportData, marks: Marks, what: Literal["items", "users"]) -> LineChart | None:
    """Returns the metric over groups of about equal size; None if a run has none."""
    metric = data.comparison.metric
    bins = {s.name: s.item_bins if what == "items" else s.user_bins for s in data.systems}
    if not all(bins.values()):
        return None
    first = bins[data.systems[0].name]
    values = [(b.metrics or {}).get(metric) for each in bins.values() for b in each]
    scale = scale_of(values, most_ticks=3)
    places = [100.0 * n / max(len(first) - 1, 1) for n in range(len(first))]
    marks_x = [
        (round(x, 2), _range(b, first=n == 0))
        for n, (x, b) in enumerate(zip(places, first, strict=True))
    ]
    lines = _lines(data.systems, bins, metric, places, scale, marks)
    rows = [
        (name, b.low, b.high, b.users, (b.metrics or {}).get(metric))
        for name, each in bins.items()
        for b in each
    ]
    of = "item" if what == "items" else "user"
    return LineChart(
        title="By how popular the next item is"
        if what == "items"
        else "By how long the history is",
        y=scale,
        x_marks=marks_x,
        lines=lines,
        csv=CsvLink(f"by-{what}-{metric}", ("run", "low", "high", "users", metric), rows),
        x_title=f"events of the {of} in training",
    )


def _lines(
    systems: list[SystemResult],
    bins: dict[str, list[BinResult]],
    metric: str,
    places: list[float],
    scale: Scale,
    marks: Marks,
) -> list[Line]:
    lines = []
    for system in sorted(systems, key=lambda s: marks[s.name] > 0):
        points = [
            Point(
                name=system.name,
                slot=marks[system.name],
                x=round(x, 2),
                y=round(100.0 - scale.at((b.metrics or {}).get(metric) or 0.0), 2),
                tip=f"{system.name}: {metric_label(metric)} "
                f"{format_number((b.metrics or {}).get(metric))}, {_range(b)} events, "
                f"{b.users:,} users",
            )
            for x, b in zip(places, bins[system.name], strict=True)
        ]
        lines.append(Line(system.name, marks[system.name], points, None))
    return name_lines(lines)


def name_lines(lines: list[Line]) -> list[Line]:
    """Names coloured lines at their right end, without overlap."""
    named = [n for n, line in enumerate(lines) if line.slot and line.points]
    places = spread_labels([lines[n].points[-1].y for n in named])
    at = dict(zip(named, places, strict=True))
    return [Line(line.name, line.slot, line.points, at.get(n)) for n, line in enumerate(lines)]


def _range(b: BinResult, *, first: bool = True) -> str:
    if b.low == b.high:
        return f"{b.low:,}"
    return (
        f"{b.low:,}\N{EN DASH}{b.high:,}"
        if first
        else f"\N{LESS-THAN OR EQUAL TO}\N{NARROW NO-BREAK SPACE}{b.high:,}"
    )
