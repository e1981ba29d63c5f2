"""The report's grid: users by the length of their history, crossed with targets by their popularity."""

from __future__ import annotations

from seqloom.evaluation.metrics import metric_label
from seqloom.reports.columns import Column, marked
from seqloom.reports.data import ReportData, SystemResult
from seqloom.reports.markup import Markup, join, table, tag

_ITEMS = {"cold": "cold items", "tail": "tail items", "head": "head items"}


def grid_table(data: ReportData) -> Markup:
    """One column for each part of the grid that has users."""
    first, metric = data.systems[0], data.figure_metric
    shown = [n for n, cell in enumerate(first.grid) if cell.users]
    head: list[object] = ["Run"]
    for n in shown:
        cell = first.grid[n]
        users = tag("span", f"{cell.users:,} users", class_="soft")
        lines = [f"{cell.user.capitalize()} users,", _ITEMS[cell.item], users]
        head.append(join([lines[0], Markup("<br>"), lines[1], Markup("<br>"), lines[2]]))
    caption = (
        f"{metric_label(metric)}. Cold: the target has no event in the training part; tail and head are cut "
        "as above."
    )
    return table(head, marked(data.systems, [_cell(metric, n) for n in shown]), caption)


def _cell(metric: str, place: int) -> Column:
    def value(system: SystemResult) -> float | None:
        metrics = system.grid[place].metrics
        return metrics.get(metric) if metrics else None

    return value
