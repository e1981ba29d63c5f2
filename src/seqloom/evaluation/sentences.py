"""Formats the result of a comparison as one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from seqloom.evaluation.metrics import metric_label

_WHERE = {
    "tail_item": "on tail items",
    "head_item": "on head items",
    "tail_user": "for tail users",
    "head_user": "for head users",
    "cold_item": "on cold items",
    "warm_item": "on warm items",
    "new_user": "for new users",
    "known_user": "for users with a history",
    "repeat_target": "on targets that the user had before",
    "new_target": "on targets that are new to the user",
}


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
    """States which run is better on the first metric, by how much, with its p-value, then by group.

    Percentages are relative to the worse system. A difference counts as shown if its Holm-corrected
    p-value is below `level`.
    """
    metric = results[0].metric
    first = [result for result in results if result.metric == metric]
    overall = next((result for result in first if result.group not in _WHERE), None)
    if overall is None or overall.run is None or overall.reference is None:
        return f"{run} and {reference} cannot be compared: there are fewer than two users."
    groups = [r for r in first if r.group in _WHERE and r.run is not None]
    ahead = overall.run >= overall.reference
    better, worse = (run, reference) if ahead else (reference, run)
    clauses = [_overall_clause(better, worse, overall, level)]
    # Groups in the direction of the overall result extend its clause; the opposite ones get their own.
    shown = [result for result in groups if _shown(result, level)]
    same = [result for result in shown if _ahead(result) == ahead]
    other = [result for result in shown if _ahead(result) != ahead]
    if same and _shown(overall, level):
        clauses[0] += f", {_amounts(same)}"
    elif same:
        clauses.append(f"{better} is ahead {_amounts(same)}")
    if other:
        clauses.append(f"{worse} is ahead {_amounts(other)}")
    rest = [_WHERE[result.group] for result in groups if result not in shown]
    if rest:
        where = _join(rest, "or") if shown else "within any group"
        clauses.append(f"no difference is shown {where}")
    return "; ".join(clauses) + "."


def _overall_clause(better: str, worse: str, overall: Result, level: float) -> str:
    label = metric_label(overall.metric)
    if overall.run == overall.reference:
        return f"{better} and {worse} are equal on {label}"
    if _shown(overall, level):
        return f"{better} beats {worse} on {label} by {_amount(overall)}"
    figures = f"{_change(overall)}, {format_p(_p(overall))}"
    return (
        f"No difference between {better} and {worse} is shown on {label} "
        f"({better} is ahead by {figures})"
    )


def format_p(p: float) -> str:
    """Formats a p-value as `p < .001` or with three decimals."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)


def _p(result: Result) -> float:
    return 1.0 if result.p_holm is None else result.p_holm


def _shown(result: Result, level: float) -> bool:
    return _p(result) < level


def _ahead(result: Result) -> bool:
    return (result.run or 0.0) > (result.reference or 0.0)


def _amount(result: Result) -> str:
    return f"{_change(result)} ({format_p(_p(result))})"


def _amounts(results: Sequence[Result]) -> str:
    return _join([f"{_WHERE[result.group]} by {_amount(result)}" for result in results])


def _change(result: Result) -> str:
    low, high = sorted((result.reference or 0.0, result.run or 0.0))
    return f"{100 * (high - low) / low:.1f} %" if low else f"{high:.4f} (from 0)"


def _join(parts: Sequence[str], last: str = "and") -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"
