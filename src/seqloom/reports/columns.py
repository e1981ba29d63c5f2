"""Tables of a report with one row per run; the best number of each column is marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from seqloom.evaluation.both_protocols import protocol_rows
from seqloom.evaluation.compare import COMPARED_METRICS
from seqloom.evaluation.groups import FURTHER_GROUPS, GROUPS, REPEAT_GROUPS
from seqloom.evaluation.metrics import RANK_METRICS, metric_label, parse_metric
from seqloom.evaluation.wording import group_label
from seqloom.reports.csv_link import CsvLink
from seqloom.reports.data import SystemResult

ALL_GROUPS = (*GROUPS, *FURTHER_GROUPS)
"""Groups of users in the order of display."""

_LIST_METRICS = ("coverage", "popularity", "popularity_percentile", "novelty")

_Column = Callable[[SystemResult], float | None]
"""Returns a column's number of a run; None if the run has no such number."""


class Cell(NamedTuple):
    """A number in a table."""

    value: float | None
    best: bool
    """Whether it is the largest of its column; False for all if the column's numbers are equal."""


def accuracy(systems: Sequence[SystemResult]) -> dict[str, Any]:
    """Returns the rank metrics over all users: `metrics`, `rows`."""
    names = _rank_metrics(systems)
    return {"metrics": names, "rows": scored_rows(systems, [_overall(name) for name in names])}


def metrics_csv(systems: Sequence[SystemResult]) -> CsvLink:
    """Returns the rank metrics of all users and of each group."""
    names = _rank_metrics(systems)
    rows: list[list[Any]] = []
    for system in systems:
        users = sum(cell.users for cell in system.grid) or None
        rows.append([system.name, "all", users, *(system.metrics.get(name) for name in names)])
        for group, result in system.groups.items():
            metrics = result.metrics or {}
            rows.append([system.name, group, result.users, *(metrics.get(n) for n in names)])
    return CsvLink("metrics", ["run", "group", "users", *names], rows)


def _rank_metrics(systems: Sequence[SystemResult]) -> list[str]:
    """Returns the usual rank metrics, and those at further cut-offs, in order of cut-off."""
    present = {name for s in systems for name in s.metrics if not _is_list_metric(name)}
    further = sorted(present - set(RANK_METRICS), key=lambda n: (parse_metric(n)[1] or 0, n))
    return [*(name for name in RANK_METRICS if name in present), *further]


def both_protocols(
    systems: Sequence[SystemResult], *, masked: bool, metrics: Sequence[str] = COMPARED_METRICS
) -> dict[str, Any] | None:
    """Returns metrics with seen items masked and kept, over all, new and repeated targets: `columns`, `rows`.

    None if no run was ranked both ways.

    Args:
        masked: whether the runs' own metrics are those with seen items masked.
    """
    if all(system.other is None for system in systems):
        return None
    rows = protocol_rows(systems, masked=masked, metrics=metrics, groups=REPEAT_GROUPS)
    kinds = list(dict.fromkeys((row.metric, row.group) for row in rows))
    values = {(row.run, row.metric, row.group): (row.masked, row.unmasked) for row in rows}
    columns = [
        mark_best([values.get((s.name, *kind), (None, None))[side] for s in systems])
        for kind in kinds
        for side in (0, 1)
    ]
    titles = [
        f"{metric_label(metric)}{'' if group == 'all' else f', {group_label(group)}'} {side}"
        for metric, group in kinds
        for side in ("masked", "kept")
    ]
    cells = [(s.name, [column[n] for column in columns]) for n, s in enumerate(systems)]
    return {"columns": titles, "rows": cells}


def by_group(systems: Sequence[SystemResult], metric: str) -> dict[str, Any] | None:
    """Returns one metric by group: `columns` (`name`, `users`), `rows`.

    None if no run has groups.
    """
    first = next((system for system in systems if system.groups), None)
    if first is None:
        return None
    names = [name for name in ALL_GROUPS if name in first.groups]
    columns = [_in_group(metric, name) for name in names]
    return {
        "columns": [{"name": name, "users": first.groups[name].users} for name in names],
        "rows": scored_rows(systems, columns),
    }


def by_user_and_item(systems: Sequence[SystemResult], metric: str) -> dict[str, Any] | None:
    """Returns one metric by length of history and popularity of target: `columns`, `rows`.

    The columns are the cells of the grid that have users. None if a run has no grid.
    """
    if not all(system.grid for system in systems):
        return None
    grid = systems[0].grid
    shown = [index for index, cell in enumerate(grid) if cell.users]
    return {
        "columns": [grid[index] for index in shown],
        "rows": scored_rows(systems, [_in_grid(metric, index) for index in shown]),
    }


def recommended(systems: Sequence[SystemResult]) -> dict[str, Any] | None:
    """Returns the metrics of recommended lists: `columns` (`kind`, `cutoff`), `rows`; if known, at 10 items.

    None if no run has any.
    """
    names = list(dict.fromkeys(name for system in systems for name in _list_metrics(system)))
    if not names:
        return None
    names = [name for name in names if name.endswith("@10")] or names
    kinds = [name.partition("@") for name in names]
    return {
        "columns": [{"kind": kind, "cutoff": cutoff} for kind, _, cutoff in kinds],
        "rows": [(s.name, [s.metrics.get(name) for name in names]) for s in systems],
    }


def scored_rows(
    systems: Sequence[SystemResult], columns: Sequence[_Column]
) -> list[tuple[str, list[Cell]]]:
    """Returns the name and the cells of each run."""
    cells = [mark_best([column(system) for system in systems]) for column in columns]
    return [(system.name, [column[n] for column in cells]) for n, system in enumerate(systems)]


def mark_best(values: Sequence[float | None]) -> list[Cell]:
    """Marks the largest value of a column; none if all values are equal."""
    known = {value for value in values if value is not None}
    best = max(known) if len(known) > 1 else None
    return [Cell(value, value is not None and value == best) for value in values]


def _overall(metric: str) -> _Column:
    return lambda system: system.metrics.get(metric)


def _in_group(metric: str, name: str) -> _Column:
    def value(system: SystemResult) -> float | None:
        group = system.groups.get(name)
        return group.metrics.get(metric) if group and group.metrics else None

    return value


def _in_grid(metric: str, index: int) -> _Column:
    def value(system: SystemResult) -> float | None:
        metrics = system.grid[index].metrics
        return metrics.get(metric) if metrics else None

    return value


def _list_metrics(system: SystemResult) -> list[str]:
    return [name for name in system.metrics if _is_list_metric(name)]


def _is_list_metric(name: str) -> bool:
    return name.partition("@")[0] in _LIST_METRICS
