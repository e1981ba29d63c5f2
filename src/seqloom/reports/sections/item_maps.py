"""The map of the items: one panel for each run, coloured as the reader chooses."""

from __future__ import annotations

import bisect
from collections import Counter
from dataclasses import dataclass

from seqloom.core.number_format import format_number
from seqloom.reports.csv_link import CsvLink
from seqloom.reports.data import ReportData

_STEPS = 5
"""Colours of popularity, from few events to many."""
_CATEGORIES = 7
"""Categories with a colour of their own; the others share one."""


@dataclass(frozen=True)
class Colouring:
    """A way to colour the points: the class of each item and its legend."""

    key: str
    title: str
    classes: list[int]
    legend: list[tuple[int, str]]


@dataclass(frozen=True)
class Panel:
    """The points of one run, in percent."""

    name: str
    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class MapView:
    """The section."""

    panels: list[Panel]
    colourings: list[Colouring]
    tips: list[str]
    csv: CsvLink

    def css_class(self, item: int) -> str:
        """Returns the classes of an item's point, one of each colouring."""
        return " ".join(f"{c.key[0]}{c.classes[item]}" for c in self.colourings)


def map_view(data: ReportData) -> MapView | None:
    """Returns the maps; None where no run has item vectors."""
    items = data.mapped_items
    if items is None or not data.item_maps:
        return None
    colourings = [_by_popularity(items.events)]
    if items.category_column:
        colourings.append(_by_category(items.category_column, items.categories))
    if 0 in items.events:
        seen = [int(count == 0) for count in items.events]
        legend = [(0, "in training"), (1, "no training event")]
        colourings.append(Colouring("new", "New items", seen, legend))
    tips = [
        f"{title}: {format_number(events)} training event{'' if events == 1 else 's'}"
        + (f", {category}" if category else "")
        for title, events, category in zip(
            items.titles,
            items.events,
            items.categories or [""] * len(items.titles),
            strict=True,
        )
    ]
    rows = [
        (one.name, item, events, x, y)
        for one in data.item_maps
        for item, events, x, y in zip(items.item_ids, items.events, one.x, one.y, strict=True)
    ]
    return MapView(
        panels=[Panel(one.name, _percent(one.x), _percent(one.y)) for one in data.item_maps],
        colourings=colourings,
        tips=tips,
        csv=CsvLink("item-map", ("run", "item_id", "events", "x", "y"), rows),
    )


def _percent(values: list[float]) -> list[float]:
    low, high = min(values), max(values)
    return [round(2.0 + 96.0 * (value - low) / ((high - low) or 1.0), 1) for value in values]


def _by_popularity(events: list[int]) -> Colouring:
    """Divides the items into steps of about equal size; equal counts share a step."""
    ordered = sorted(events)
    edges = sorted({ordered[len(ordered) * n // _STEPS] for n in range(1, _STEPS)} - {ordered[0]})
    classes = [bisect.bisect_right(edges, count) for count in events]
    legend = []
    for step in sorted(set(classes)):
        inside = [count for count, each in zip(events, classes, strict=True) if each == step]
        low, high = min(inside), max(inside)
        legend.append((step, f"{low:,}" if low == high else f"{low:,}\N{EN DASH}{high:,}"))
    return Colouring("popularity", "Training events", classes, legend)


def _by_category(column: str, categories: list[str]) -> Colouring:
    counts = Counter(category for category in categories if category)
    named = [category for category, _ in counts.most_common(_CATEGORIES)]
    classes = [named.index(c) + 1 if c in named else 0 for c in categories]
    legend = [*((n, name) for n, name in enumerate(named, start=1)), (0, "others")]
    return Colouring("category", column.replace("_", " ").capitalize(), classes, legend)
