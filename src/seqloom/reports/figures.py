"""Draws the figures of a report, each with its data. Only drawing imports matplotlib."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

from seqloom.evaluation.compare import Comparison
from seqloom.evaluation.metrics import metric_label
from seqloom.reports.data import BinResult, LongTail, SystemResult
from seqloom.reports.figure_style import (
    COLOURS,
    HATCHES,
    INK,
    MARKERS,
    Canvas,
    Figure,
    escape_dollars,
)

_WHAT = {"items": "item_bins", "users": "user_bins"}
_AXIS = {
    "items": "training events of the item",
    "users": "training events of the user",
}
_BINNED = {"items": "target item's training events", "users": "user's training events"}


def long_tail_figure(
    tail: LongTail, systems: Sequence[SystemResult], metric: str = "ndcg@10"
) -> Figure:
    """Draws histograms of items by popularity and users by length, with the metric by group above them."""
    rows: list[tuple[Any, ...]] = []
    with Canvas(2, 2, 9.0, 5.2, sharex="col", height_ratios=(2, 3)) as canvas:
        for column, what in enumerate(("items", "users")):
            above, below = canvas.axes[:, column]
            counts: dict[int, int] = getattr(tail, what)
            threshold = tail.thresholds.item if what == "items" else tail.thresholds.user
            _draw_histogram(below, counts, threshold, what)
            rows += [(what, "histogram", n, n, "", counts[n], "") for n in sorted(counts)]
            for index, system in enumerate(systems):
                bins = _filled(getattr(system, _WHAT[what]), metric)
                values = [(b.metrics or {})[metric] for b in bins]
                places = [((b.low + 1) * (b.high + 1)) ** 0.5 - 1 for b in bins]
                above.plot(places, values, **_line(index), label=escape_dollars(system.name))
                rows += [
                    (what, system.name, b.low, b.high, metric, b.users, value)
                    for b, value in zip(bins, values, strict=True)
                ]
            highest = max((row[6] for row in rows if row[0] == what and row[4]), default=0.0)
            above.set_ylim(0, 1.15 * highest or 1.0)
            above.set_ylabel(metric_label(metric))
            _mark_threshold(above, threshold)
        canvas.legend(canvas.axes[0, 0], len(systems))
        svg = canvas.svg("long_tail")
    columns = ("what", "series", "low", "high", "metric", "count", "value")
    caption = (
        "Below: number of items (users) by training events, in bins of increasing width. "
        f"Above: {metric_label(metric)} of users in groups of about equal size, by the training "
        "events of the target (of the user). The dashed line separates tail from head."
    )
    return Figure("long_tail", "The long tail", caption, svg, columns, rows)


def group_bars(
    systems: Sequence[SystemResult],
    what: Literal["items", "users"],
    metric: str = "ndcg@10",
) -> Figure:
    """Draws bars by system for groups of about equal size, by item popularity or by user length."""
    rows: list[tuple[Any, ...]] = []
    with Canvas(1, 1, 9.0, 3.4) as canvas:
        axis = canvas.axes[0, 0]
        width = 0.8 / max(len(systems), 1)
        for index, system in enumerate(systems):
            for place, b in enumerate(getattr(system, _WHAT[what])):
                value = (b.metrics or {}).get(metric)
                rows.append((system.name, b.low, b.high, b.users, metric, value))
                axis.bar(
                    place + (index - (len(systems) - 1) / 2) * width,
                    value or 0.0,
                    width,
                    color=COLOURS[index % len(COLOURS)],
                    hatch=HATCHES[index % len(HATCHES)],
                    edgecolor=INK,
                    linewidth=0.5,
                    label=escape_dollars(system.name) if place == 0 else None,
                )
        bins: Sequence[BinResult] = getattr(systems[0], _WHAT[what])
        axis.set_xticks(range(len(bins)), [f"{_range(b)}\nn = {b.users:,}" for b in bins])
        axis.grid(axis="x", visible=False)
        axis.set_xlabel(f"{_BINNED[what]} (n: number of users)")
        axis.set_ylabel(metric_label(metric))
        canvas.legend(axis, len(systems))
        svg = canvas.svg(f"groups_{what}")
    title = "By popularity of the target" if what == "items" else "By length of the user's history"
    caption = (
        f"{metric_label(metric)} in groups of about equal size; equal counts are in the same group."
    )
    columns = ("run", "low", "high", "users", "metric", "value")
    return Figure(f"groups_{what}", title, caption, svg, columns, rows)


def training_curves(systems: Sequence[SystemResult], metric: str = "ndcg@10") -> Figure:
    """Draws training loss and validation metric over epochs; phases follow one another."""
    rows: list[tuple[Any, ...]] = []
    with Canvas(1, 2, 9.0, 3.4) as canvas:
        left, right = canvas.axes[0]
        for index, system in enumerate(systems):
            points = [
                (n, row.get("phase", ""), row.get("train", {}).get("loss"), _valid(row, metric))
                for n, row in enumerate(system.log, start=1)
            ]
            rows += [(system.name, *point) for point in points]
            for axis, at in ((left, 2), (right, 3)):
                known = [point for point in points if point[at] is not None]
                axis.plot(
                    [point[0] for point in known],
                    [point[at] for point in known],
                    **_line(index),
                    markevery=max(1, len(known) // 12),
                    label=escape_dollars(system.name),
                )
        left.set_ylabel("training loss (each system's own)")
        right.set_ylabel(f"validation {metric_label(metric)}")
        for axis in (left, right):
            axis.set_xlabel("epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
        canvas.legend(left, len(systems))
        svg = canvas.svg("training")
    caption = "Losses of different systems have different meanings; compare the validation metric."
    columns = ("run", "epoch", "phase", "loss", f"valid {metric}")
    return Figure("training", "Training", caption, svg, columns, rows)


def forest(comparison: Comparison, metric: str = "ndcg@10") -> Figure:
    """Draws differences with confidence intervals, one line per pair and group."""
    shown = [
        (pair, d)
        for pair in comparison.pairs
        for d in pair.differences
        if d.metric == metric and d.difference is not None
    ]
    level = 1 - comparison.confidence
    rows = [
        (p.run, p.reference, d.group, d.users, d.metric, d.difference, d.low, d.high, d.p_holm)
        for p, d in shown
    ]
    with Canvas(1, 1, 9.0, 1.0 + 0.24 * max(len(shown), 2)) as canvas:
        axis = canvas.axes[0, 0]
        index = {id(pair): n for n, pair in enumerate(comparison.pairs)}
        for place, (pair, d) in enumerate(shown):
            style = _line(index[id(pair)]) | {"linestyle": "none"}
            certain = d.p_holm is not None and d.p_holm < level
            assert d.difference is not None
            assert d.low is not None
            assert d.high is not None
            axis.plot([d.low, d.high], [place, place], color=style["color"], linewidth=1.5)
            fill = style["color"] if certain else "none"
            axis.plot(d.difference, place, **style, markerfacecolor=fill)
        axis.axvline(0, color=INK, linewidth=0.8)
        labels = [
            f"{escape_dollars(p.run)} − {escape_dollars(p.reference)}, {_group(d.group)}  (n = {d.users:,})"
            for p, d in shown
        ]
        axis.set_yticks(range(len(shown)), labels)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set_xlabel(f"difference in {metric_label(metric)} (n: number of users)")
        svg = canvas.svg("differences")
    caption = (
        f"Mean difference over users with its {100 * comparison.confidence:g} % bootstrap interval "
        "(not corrected). A filled marker: the difference is significant after Holm's correction for "
        f"{comparison.comparisons} comparisons."
    )
    columns = (
        "run",
        "reference",
        "group",
        "users",
        "metric",
        "difference",
        "low",
        "high",
        "p_holm",
    )
    return Figure("differences", "Differences between systems", caption, svg, columns, rows)


def _draw_histogram(axis: Any, counts: dict[int, int], threshold: int, what: str) -> None:
    edges = _edges(max(counts, default=1))
    heights = [
        sum(many for n, many in counts.items() if low <= n < high)
        for low, high in itertools.pairwise(edges)
    ]
    lefts = [low - 0.5 for low in edges[:-1]]
    widths = [high - low for low, high in itertools.pairwise(edges)]
    axis.bar(lefts, heights, widths, align="edge", color=COLOURS[4], edgecolor=INK, linewidth=0.4)
    axis.set_xscale("symlog", linthresh=1)
    axis.set_xlim(min(counts, default=0) - 0.5, edges[-1])
    axis.set_yscale("log")
    axis.set_ylim(bottom=0.8)
    marks = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000)
    ticks = [tick for tick in marks if min(counts, default=0) <= tick < edges[-1]]
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.xaxis.set_minor_locator(_no_ticks())
    axis.set_xlabel(_AXIS[what])
    axis.set_ylabel(f"number of {what}")
    head = sum(many for n, many in counts.items() if n >= threshold)
    tail = sum(counts.values()) - head
    axis.set_title(f"{tail:,} tail | {head:,} head {what} (head: {threshold:,} or more)")
    _mark_threshold(axis, threshold)


def _edges(largest: int) -> list[int]:
    """Returns integer bin edges, each about 25 % above the previous one; the last is above `largest`."""
    edges = [0]
    while edges[-1] <= largest:
        edges.append(max(edges[-1] + 1, round(edges[-1] * 1.25)))
    return edges


def _mark_threshold(axis: Any, threshold: int) -> None:
    axis.axvline(threshold - 0.5, color=INK, linestyle="--", linewidth=0.9)


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _line(index: int) -> dict[str, Any]:
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": ("-", "--", ":")[index // len(COLOURS) % 3],
        "linewidth": 1.4,
    }


def _filled(bins: Sequence[BinResult], metric: str) -> list[BinResult]:
    return [b for b in bins if b.metrics and metric in b.metrics]


def _range(b: BinResult) -> str:
    return f"{b.low:,}" if b.low == b.high else f"{b.low:,} to {b.high:,}"


def _valid(row: dict[str, Any], metric: str) -> float | None:
    return (row.get("valid") or {}).get(metric)


def _group(name: str) -> str:
    return "all users" if name == "all" else name.replace("_", " ") + "s"
