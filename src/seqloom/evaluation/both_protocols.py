"""Results with seen items masked and kept, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from seqloom.core.config import Config
from seqloom.evaluation.record import RunRecord


class ProtocolRow(Config):
    """One metric of one run under both decisions about seen items."""

    run: str
    metric: str
    group: str = "all"
    """`all`, or a group of users."""
    masked: float | None = None
    """With seen items masked; None where the run was not ranked so."""
    unmasked: float | None = None
    """With seen items kept; None where the run was not ranked so."""


def protocol_rows(
    records: Iterable[RunRecord],
    *,
    masked: bool,
    metrics: Sequence[str],
    groups: Sequence[str] = (),
) -> list[ProtocolRow]:
    """Returns a row for each run, metric and group; over all users first.

    Args:
        masked: whether `RunRecord.metrics` are those with seen items masked.
        groups: the groups of users to list, where a run has them.
    """
    rows = []
    for record in records:
        for group in ("all", *(group for group in groups if group in record.groups)):
            for metric in metrics:
                own, other = _values(record, metric, group)
                rows.append(
                    ProtocolRow(
                        run=record.name,
                        metric=metric,
                        group=group,
                        masked=own if masked else other,
                        unmasked=other if masked else own,
                    )
                )
    return rows


def _values(record: RunRecord, metric: str, group: str) -> tuple[float | None, float | None]:
    """Returns a metric under the decision of the record, and under the other one."""
    other = record.other
    if group == "all":
        return record.metrics.get(metric), None if other is None else other.metrics.get(metric)
    sides = (record.groups.get(group), None if other is None else other.groups.get(group))
    own, theirs = (
        None if side is None or side.metrics is None else side.metrics.get(metric) for side in sides
    )
    return own, theirs
