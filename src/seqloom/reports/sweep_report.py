"""The report of a sweep: one HTML file, with its figures as SVG and its numbers as CSV beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from seqloom.core.config import Config
from seqloom.core.files import atomic_file
from seqloom.evaluation.metrics import metric_label
from seqloom.reports.columns import ALL_GROUPS
from seqloom.reports.figure_style import Figure
from seqloom.reports.figures_sweep import ablation, numeric_keys, sensitivity
from seqloom.reports.pages import write_page
from seqloom.reports.sweep_table import Measurement, SummaryRow, label, select_rows


class SweepReport(Config):
    """The contents of the report."""

    dataset: str
    statistics: dict[str, int | float | str]
    metrics: list[str]
    """The first one is drawn."""
    table: list[SummaryRow]
    measurements: list[Measurement]
    failed: list[dict[str, str]] = Field(default_factory=list)
    """`run` and `error` of the runs that are not in the table."""


def write_sweep_report(path: Path, data: SweepReport) -> Path:
    """Writes the report at `path`, and beside it its figures, `summary.csv` and `runs.csv`."""
    _write_csv(path.with_name("summary.csv"), _summary_rows(data.table))
    _write_csv(path.with_name("runs.csv"), _run_rows(data.measurements))
    protocols = [
        (protocol, [_summary_table(data.table, protocol, metric) for metric in data.metrics])
        for protocol in dict.fromkeys(row.protocol for row in data.table)
    ]
    drawn = draw_sweep(data)
    folder = path.with_name(f"{path.stem}_figures")
    for figure in drawn:
        figure.save(folder)
    return write_page(
        path,
        "sweep.html.j2",
        drawn=drawn,
        folder=folder.name,
        report=data,
        headline=_headline(data),
        runs=len({measurement.run for measurement in data.measurements}),
        protocols=protocols,
    )


def _headline(data: SweepReport) -> str:
    """States which variant has the highest mean of the first metric."""
    rows = (
        select_rows(
            data.table, protocol=data.table[0].protocol, group="all", metric=data.metrics[0]
        )
        if data.table
        else []
    )
    if not rows:
        return "No run of the sweep has finished."
    best = max(rows, key=lambda row: row.mean)
    return f"{label(best)} has the highest mean {metric_label(data.metrics[0])}."


def draw_sweep(data: SweepReport) -> list[Figure]:
    """Draws the sensitivity to each numeric grid key, and the variants where there are several."""
    if not data.table:
        return []
    metric, protocol = data.metrics[0], data.table[0].protocol
    drawn = [sensitivity(data.table, key, metric, protocol) for key in numeric_keys(data.table)]
    if len({row.variant for row in data.table}) > 1:
        drawn.append(ablation(data.table, metric, protocol))
    return drawn


def _summary_table(rows: Sequence[SummaryRow], protocol: str, metric: str) -> dict[str, Any]:
    """Variants by groups of users: `metric`, `columns` (`name`, `users`), `rows` (`name`, `cells`, `seeds`).

    A cell is None or has `mean`, `std` and `best`, whether the mean is the highest of its column.
    """
    columns = {
        group: selected
        for group in ("all", *ALL_GROUPS)
        if (selected := select_rows(rows, protocol=protocol, group=group, metric=metric))
    }
    cells = {}
    for group, column in columns.items():
        best = max(row.mean for row in column)
        for row in column:
            cell = {"mean": row.mean, "std": row.std, "best": row.mean == best}
            cells[label(row), group] = cell
    return {
        "metric": metric,
        "columns": [{"name": group, "users": column[0].users} for group, column in columns.items()],
        "rows": [
            {
                "name": label(row),
                "cells": [cells.get((label(row), group)) for group in columns],
                "seeds": row.seeds,
            }
            for row in columns.get("all", [])
        ],
    }


def _summary_rows(rows: Sequence[SummaryRow]) -> Iterable[list[Any]]:
    keys = list(dict.fromkeys(key for row in rows for key in row.point))
    fixed = ["protocol", "group", "users", "metric", "mean", "std", "best", "seeds"]
    yield ["variant", "system", *keys, *fixed]
    for row in rows:
        values = [row.protocol, row.group, row.users, row.metric, row.mean, row.std, row.best]
        point = [row.point.get(key) for key in keys]
        yield [row.variant, row.system, *point, *values, " ".join(map(str, row.seeds))]


def _run_rows(rows: Sequence[Measurement]) -> Iterable[list[Any]]:
    keys = list(dict.fromkeys(key for row in rows for key in row.point))
    fixed = ["seed", "protocol", "group", "users", "metric", "value"]
    yield ["run", "variant", "system", *keys, *fixed]
    for row in rows:
        values = [row.seed, row.protocol, row.group, row.users, row.metric, row.value]
        yield [row.run, row.variant, row.system, *(row.point.get(key) for key in keys), *values]


def _write_csv(path: Path, rows: Iterable[list[Any]]) -> None:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    with atomic_file(path) as work:
        work.write_text(written.getvalue(), encoding="utf-8")
