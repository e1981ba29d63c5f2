"""Columns of a report's tables: a number a run, the best one marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seqloom.reports.data import SystemResult
from seqloom.reports.markup import number, tag

Column = Callable[[SystemResult], float | None]
"""What a column shows of a run; None where there is nothing."""


def overall(metric: str) -> Column:
    """A metric over all users."""
    return lambda system: system.metrics.get(metric)


def in_group(metric: str, group: str) -> Column:
    """A metric of one group of users."""

    def value(system: SystemResult) -> float | None:
        found = system.groups.get(group)
        return found.metrics.get(metric) if found and found.metrics else None

    return value


def marked(systems: Sequence[SystemResult], columns: Sequence[Column]) -> list[list[object]]:
    """A row a system; the largest number of each column is marked where they differ."""
    rows: list[list[object]] = [[system.name] for system in systems]
    for column in columns:
        values = [column(system) for system in systems]
        known = [value for value in values if value is not None]
        best = max(known) if len(set(known)) > 1 else None
        for row, value in zip(rows, values, strict=True):
            shown = number(value)
            row.append(
                tag("span", shown, class_="best") if value is not None and value == best else shown
            )
    return rows
