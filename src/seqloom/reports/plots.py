"""Figures of results as matplotlib objects, for notebooks and papers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import matplotlib
from matplotlib.figure import Figure

from seqloom.core.errors import ConfigError
from seqloom.evaluation.compare import Comparison
from seqloom.evaluation.metrics import metric_label
from seqloom.reports.figure_style import COLOURS, HATCHES, INK, MARKERS, escape_dollars

_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


class Evaluated(Protocol):
    """An evaluation: the folder of its run, and a row for all users and each group."""

    @property
    def run(self) -> str:
        """The folder of the run."""

    def as_rows(self) -> list[dict[str, Any]]:
        """Returns rows with `group`, `users` and metrics."""


class Logged(Protocol):
    """A run with its name and training log."""

    @property
    def name(self) -> str:
        """The name."""

    @property
    def log(self) -> list[dict[str, Any]]:
        """One row an epoch: `train` and, where validated, `valid`."""


class Plot(Figure):
    """A matplotlib figure that a notebook shows without pyplot."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=110)
        return stream.getvalue()


def plot_metrics(
    evaluations: Sequence[Evaluated] | Evaluated,
    *,
    metric: str = "ndcg@10",
    names: Sequence[str] = (),
) -> Figure:
    """Draws a metric over all users and by group, one bar an evaluation.

    Args:
        evaluations: results of `evaluate`, of one protocol.
        names: labels of the evaluations; by default the names of their runs.

    Raises:
        ConfigError: an evaluation has no such metric, or the number of names differs.
    """
    shown = list(evaluations) if isinstance(evaluations, Sequence) else [evaluations]
    labels = list(names) or [Path(each.run).name for each in shown]
    if len(labels) != len(shown):
        raise ConfigError(f"names has {len(labels)} entries for {len(shown)} evaluations")
    tables = [{row["group"]: row for row in each.as_rows()} for each in shown]
    groups = list(tables[0])
    with matplotlib.rc_context(_STYLE):
        plot = Plot(
            figsize=(1.6 + 0.5 * len(groups) * max(len(shown), 2) ** 0.7, 3.2), layout="constrained"
        )
        axis = plot.subplots()
        width = 0.8 / len(shown)
        for number, (label, table) in enumerate(zip(labels, tables, strict=True)):
            axis.bar(
                [place + (number - (len(shown) - 1) / 2) * width for place in range(len(groups))],
                [_value(table, group, metric) for group in groups],
                width,
                color=COLOURS[number % len(COLOURS)],
                hatch=HATCHES[number % len(HATCHES)],
                edgecolor=INK,
                linewidth=0.5,
                label=escape_dollars(label),
            )
        axis.set_xticks(range(len(groups)), [_group(table=tables[0], name=name) for name in groups])
        axis.grid(axis="x", visible=False)
        axis.set_ylabel(metric_label(metric))
        axis.legend()
    return plot


def plot_training(*runs: Logged, metric: str = "ndcg@10") -> Figure:
    """Draws the training loss and a validation metric of runs over their epochs.

    Losses of different systems have different meanings; compare the validation metric.
    """
    with matplotlib.rc_context(_STYLE):
        plot = Plot(figsize=(8.0, 3.0), layout="constrained")
        left, right = plot.subplots(1, 2)
        for number, run in enumerate(runs):
            style = _line(number, run.name)
            for axis, key in ((left, ("train", "loss")), (right, ("valid", metric))):
                points = [
                    (epoch, row[key[0]][key[1]])
                    for epoch, row in enumerate(run.log, start=1)
                    if (row.get(key[0]) or {}).get(key[1]) is not None
                ]
                axis.plot([x for x, _ in points], [y for _, y in points], **style)
        left.set_ylabel("training loss (each system's own)")
        right.set_ylabel(f"validation {metric_label(metric)}")
        for axis in (left, right):
            axis.set_xlabel("epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
        right.legend()
    return plot


def plot_differences(comparison: Comparison, *, metric: str = "ndcg@10") -> Figure:
    """Draws the differences of a comparison with their confidence intervals, by pair and group.

    A filled marker is a difference that is significant after Holm's correction.

    Raises:
        ConfigError: the comparison has no such metric.
    """
    rows = [
        row
        for row in comparison.as_rows()
        if row["metric"] == metric and row["difference"] is not None
    ]
    if not rows:
        known = ", ".join(dict.fromkeys(row["metric"] for row in comparison.as_rows()))
        raise ConfigError(f"the comparison has no metric {metric!r}; it has {known}")
    pairs = list(dict.fromkeys((row["run"], row["reference"]) for row in rows))
    with matplotlib.rc_context(_STYLE):
        plot = Plot(figsize=(8.0, 1.0 + 0.26 * len(rows)), layout="constrained")
        axis = plot.subplots()
        for place, row in enumerate(rows):
            style = _line(pairs.index((row["run"], row["reference"])), "") | {"linestyle": "none"}
            certain = row["p_holm"] is not None and row["p_holm"] < 1 - comparison.confidence
            fill = style["color"] if certain else "none"
            axis.plot([row["low"], row["high"]], [place, place], color=style["color"])
            axis.plot(row["difference"], place, **style, markerfacecolor=fill)
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.set_yticks(
            range(len(rows)),
            [
                escape_dollars(
                    f"{row['run']} − {row['reference']}, {row['group']} (n = {row['users']:,})"
                )
                for row in rows
            ],
        )
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set_xlabel(f"difference in {metric_label(metric)}")
    return plot


def _value(table: dict[str, dict[str, Any]], group: str, metric: str) -> float:
    row = table.get(group, {})
    if metric not in table["all"]:
        known = ", ".join(name for name in table["all"] if name not in ("group", "users"))
        raise ConfigError(f"the evaluation has no metric {metric!r}; it has {known}")
    return float(row.get(metric) or 0.0)


def _group(*, table: dict[str, dict[str, Any]], name: str) -> str:
    return f"{name.replace('_', ' ')}\nn = {table[name]['users']:,}"


def _line(number: int, label: str) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 4,
        "linewidth": 1.4,
        "label": escape_dollars(label),
    }
