"""Formats the result of a comparison as one sentence.

A gap is stated once and from one side: the run relative to the reference, as `Difference.relative` has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from seqloom.core.number_format import format_p, format_percent, join_names
from seqloom.evaluation.metrics import metric_label
from seqloom.evaluation.wording import ALL_USERS, in_group


class Result(Protocol):
    """The fields of a difference (run minus reference) that the sentence uses."""

    @property
    def metric(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def reference(self) -> float | None: ...
    @property
    def run(self) -> float | None: ...
    @property
    def p_holm(self) -> float | None: ...


def comparison_sentence(
    run: str, reference: str, results: Sequence[Result], level: float = 0.05
) -> str:
    """States how far the run is above or below the reference on the first metric, then by group.

    Percentages are relative to the reference. A difference counts as shown if its Holm-corrected p-value is
    below `level`.
    """
    metric = results[0].metric
    first = [result for result in results if result.metric == metric]
    overall = next((result for result in first if result.group == ALL_USERS), None)
    if overall is None or overall.run is None or overall.reference is None:
        return f"{run} and {reference} cannot be compared: there are fewer than two users."
    clauses = [_overall_clause(run, reference, overall, level)]
    groups = [r for r in first if r.group != ALL_USERS and r.run is not None]
    shown = [result for result in groups if is_shown(result, level)]
    if shown:
        clauses.append(
            join_names([f"{in_group(r.group)} {gap(r)} ({format_p(_p(r))})" for r in shown])
        )
    rest = [in_group(result.group) for result in groups if result not in shown]
    if rest:
        clauses.append(f"not shown {join_names(rest, 'or') if shown else 'within any group'}")
    return "; ".join(clauses) + "."


def gap(result: Result) -> str:
    """Formats run against reference: `9.3 % below`, from a reference of 0 `0.0200 above`."""
    run, reference = result.run or 0.0, result.reference or 0.0
    where = "above" if run >= reference else "below"
    if not reference:
        return f"{run:.4f} {where} 0"
    return f"{format_percent(abs(run - reference) / reference)} {where}"


def is_shown(result: Result, level: float) -> bool:
    """Returns whether the difference holds after Holm's correction."""
    return _p(result) < level


def _overall_clause(run: str, reference: str, overall: Result, level: float) -> str:
    label = metric_label(overall.metric)
    if overall.run == overall.reference:
        return f"It is not shown that {run} and {reference} differ on {label}: both score {overall.run:.4f}"
    if is_shown(overall, level):
        where = gap(overall) + (f" {reference}" if overall.reference else f" (from {reference})")
        return f"{run} scores {where} on {label} ({format_p(_p(overall))})"
    return (
        f"It is not shown that {run} and {reference} differ on {label} "
        f"({run} is {gap(overall)}, {format_p(_p(overall))})"
    )


def _p(result: Result) -> float:
    return 1.0 if result.p_holm is None else result.p_holm
