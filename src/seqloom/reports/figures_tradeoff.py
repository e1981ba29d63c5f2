"""Draws accuracy against coverage of the catalogue and novelty of the recommendations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqloom.evaluation.metrics import metric_label
from seqloom.reports.data import SystemResult
from seqloom.reports.figure_style import COLOURS, INK, MARKERS, Canvas, Figure, escape_dollars

_BESIDE = {
    "coverage@10": "coverage@10 (share of the catalogue)",
    "novelty@10": "novelty@10 (bits)",
}


def shows_tradeoff(systems: Sequence[SystemResult], metric: str) -> bool:
    """Checks that every run has the metrics of the figure."""
    return all({metric, *_BESIDE} <= system.metrics.keys() for system in systems)


def tradeoff(systems: Sequence[SystemResult], metric: str = "ndcg@10") -> Figure:
    """Draws one point per run: accuracy upwards, coverage and novelty to the right."""
    rows: list[tuple[Any, ...]] = []
    with Canvas(1, 2, 9.0, 3.6, sharey=True) as canvas:
        for axis, beside in zip(canvas.axes[0], _BESIDE, strict=True):
            for index, system in enumerate(systems):
                axis.plot(
                    system.metrics[beside],
                    system.metrics[metric],
                    linestyle="none",
                    marker=MARKERS[index % len(MARKERS)],
                    markersize=8,
                    color=COLOURS[index % len(COLOURS)],
                    markeredgecolor=INK,
                    markeredgewidth=0.5,
                    label=escape_dollars(system.name),
                )
            axis.set_xlabel(_BESIDE[beside])
            axis.margins(x=0.12, y=0.15)
        canvas.axes[0, 0].set_ylabel(metric_label(metric))
        canvas.legend(canvas.axes[0, 0], len(systems))
        svg = canvas.svg("tradeoff")
    rows = [
        (s.name, s.metrics[metric], *(s.metrics[beside] for beside in _BESIDE)) for s in systems
    ]
    caption = (
        "Up is more accurate, right is more of the catalogue (left figure) or less popular items "
        "(right figure). A run that is above and to the right of another is better in both."
    )
    columns = ("run", metric, *_BESIDE)
    return Figure("tradeoff", "Accuracy, coverage and novelty", caption, svg, columns, rows)
