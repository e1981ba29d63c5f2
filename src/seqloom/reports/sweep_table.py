"""Measurements of many runs, and their mean, standard deviation and best over seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from seqloom.core.config import Config


class Measurement(Config):
    """One metric of one run, for all users or one group."""

    run: str
    variant: str
    system: str
    seed: int
    point: dict[str, Any]
    """Grid keys and values."""
    protocol: str
    group: str
    """`all`, `tail_item`, ..."""
    users: int
    metric: str
    value: float


class SummaryRow(Config):
    """One metric of one variant at one grid point, over its seeds."""

    variant: str
    system: str
    point: dict[str, Any]
    protocol: str
    group: str
    users: int
    metric: str
    seeds: list[int]
    mean: float
    std: float | None
    """Sample standard deviation over seeds; None with one seed."""
    best: float


def summarise(measurements: Iterable[Measurement]) -> list[SummaryRow]:
    """Returns one row for each variant, grid point, protocol, group and metric, in order of appearance."""
    by_key: dict[tuple[str, ...], list[Measurement]] = {}
    for m in measurements:
        key = (m.variant, json.dumps(m.point), m.protocol, m.group, m.metric)
        by_key.setdefault(key, []).append(m)
    return [_summarise_seeds(seeds) for seeds in by_key.values()]


def _summarise_seeds(measurements: Sequence[Measurement]) -> SummaryRow:
    values = [measurement.value for measurement in measurements]
    first = measurements[0]
    return SummaryRow(
        variant=first.variant,
        system=first.system,
        point=first.point,
        protocol=first.protocol,
        group=first.group,
        users=first.users,
        metric=first.metric,
        seeds=[measurement.seed for measurement in measurements],
        mean=statistics.fmean(values),
        std=statistics.stdev(values) if len(values) > 1 else None,
        best=max(values),
    )


def label(row: SummaryRow, without: str | None = None) -> str:
    """Formats the variant and its grid point, without one key of the point."""
    point = ", ".join(f"{key}={value}" for key, value in row.point.items() if key != without)
    return f"{row.variant} ({point})" if point else row.variant


def select_rows(
    table: Iterable[SummaryRow], *, protocol: str, group: str, metric: str
) -> list[SummaryRow]:
    """Selects the rows of one protocol, group and metric."""
    key = (protocol, group, metric)
    return [row for row in table if (row.protocol, row.group, row.metric) == key]
