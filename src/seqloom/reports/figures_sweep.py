"""Draws the figures of a sweep: a metric over the values of a key, and the metric of each variant."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from seqloom.evaluation.metrics import metric_label
from seqloom.evaluation.wording import group_label
from seqloom.reports.figure_style import COLOURS, INK, MARKERS, Canvas, Figure, escape_dollars
from seqloom.reports.sweep_table import SummaryRow, label, select_rows

_GROUPS = ("all", "tail_item")


def numeric_keys(table: Sequence[SummaryRow]) -> list[str]:
    """Returns the grid keys with two or more values, all of them numbers, in order of appearance."""
    values: dict[str, set[Any]] = {}
    for row in table:
        for key, value in row.point.items():
            values.setdefault(key, set()).add(json.dumps(value))
    return [key for key, texts in values.items() if len(texts) > 1 and all(map(_is_number, texts))]


def sensitivity(
    table: Sequence[SummaryRow], key: str, metric: str, protocol: str = "full"
) -> Figure:
    """Draws the metric over the values of one key, for all users and tail items, one line per setting.

    A variant without the key is a horizontal line.
    """
    rows: list[tuple[Any, ...]] = []
    with Canvas(1, 2, 9.0, 3.4) as canvas:
        lines = 0
        for axis, group in zip(canvas.axes[0], _GROUPS, strict=True):
            selected = select_rows(table, protocol=protocol, group=group, metric=metric)
            curves: dict[str, list[SummaryRow]] = {}
            for row in selected:
                curves.setdefault(label(row, without=key), []).append(row)
            values = sorted({row.point[key] for row in selected if key in row.point})
            places = {value: place for place, value in enumerate(values)}
            for index, (name, curve) in enumerate(curves.items()):
                _draw_curve(axis, index, name, curve, key, places)
                rows += [
                    (name, group, row.point.get(key), row.mean, row.std, row.best, len(row.seeds))
                    for row in curve
                ]
            lines = len(curves)
            axis.set_xticks(range(len(values)), [f"{value:g}" for value in values])
            axis.set_xlabel(escape_dollars(key))
            axis.set_ylabel(metric_label(metric))
            users = selected[0].users if selected else 0
            axis.set_title(f"{group_label(group)} (n = {users:,} users)")
        canvas.legend(canvas.axes[0, 0], lines)
        name = "sensitivity_" + key.replace(".", "_")
        svg = canvas.svg(name)
    caption = (
        f"{metric_label(metric)} ({protocol} ranking) by {key}: means over seeds, with their "
        "standard deviation where there are several. The values stand at equal distances."
    )
    columns = ("series", "group", key, "mean", "std", "best", "seeds")
    return Figure(name, f"Sensitivity to {key}", caption, svg, columns, rows)


def ablation(
    table: Sequence[SummaryRow], metric: str, protocol: str = "full", reference: int = 0
) -> Figure:
    """Draws each variant's metric with its standard deviation; the line marks the reference."""
    rows: list[tuple[Any, ...]] = []
    first = select_rows(table, protocol=protocol, group="all", metric=metric)
    with Canvas(1, 2, 9.0, 1.3 + 0.28 * max(len(first), 2), sharey=True) as canvas:
        for axis, group in zip(canvas.axes[0], _GROUPS, strict=True):
            selected = select_rows(table, protocol=protocol, group=group, metric=metric)
            base = selected[reference].mean if selected else 0.0
            for place, row in enumerate(selected):
                axis.errorbar(
                    row.mean,
                    place,
                    xerr=row.std,
                    color=COLOURS[0],
                    marker=MARKERS[place == reference],
                    markerfacecolor=COLOURS[0] if place == reference else "none",
                    capsize=3,
                )
                change = row.mean / base - 1 if base else None
                seeds = " ".join(map(str, row.seeds))
                rows.append(
                    (label(row), group, row.users, row.mean, row.std, row.best, change, seeds)
                )
            axis.axvline(base, color=INK, linestyle="--", linewidth=0.8)
            axis.set_xlabel(metric_label(metric))
            users = selected[0].users if selected else 0
            axis.set_title(f"{group_label(group)} (n = {users:,} users)")
            axis.grid(axis="y", visible=False)
        left = canvas.axes[0, 0]
        left.set_yticks(range(len(first)), [escape_dollars(label(row)) for row in first])
        left.invert_yaxis()
        svg = canvas.svg("ablation")
    caption = (
        f"{metric_label(metric)} ({protocol} ranking): mean over seeds, with the standard deviation "
        f"where there are several. The dashed line is {label(first[reference])}."
        if first
        else "No runs."
    )
    columns = ("variant", "group", "users", "mean", "std", "best", "relative", "seeds")
    return Figure("ablation", "Variants", caption, svg, columns, rows)


def _draw_curve(
    axis: Any,
    index: int,
    name: str,
    curve: Sequence[SummaryRow],
    key: str,
    places: dict[Any, int],
) -> None:
    colour = COLOURS[index % len(COLOURS)]
    points = sorted((places[row.point[key]], row) for row in curve if key in row.point)
    if not points:
        axis.axhline(curve[0].mean, color=colour, linestyle=":", label=escape_dollars(name))
        return
    axis.errorbar(
        [place for place, _ in points],
        [row.mean for _, row in points],
        yerr=[row.std or 0.0 for _, row in points],
        color=colour,
        marker=MARKERS[index % len(MARKERS)],
        linestyle=("-", "--", ":")[index // len(COLOURS) % 3],
        linewidth=1.4,
        capsize=3,
        label=escape_dollars(name),
    )


def _is_number(text: str) -> bool:
    value = json.loads(text)
    return isinstance(value, int | float) and not isinstance(value, bool)
