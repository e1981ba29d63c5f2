"""Judges whether a language model pays: its gain, the certainty of the gain, and its cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from seqloom.core.number_format import (
    format_duration,
    format_milliseconds,
    format_p,
    join_names,
)
from seqloom.evaluation.metrics import metric_label
from seqloom.evaluation.record import RunRecord
from seqloom.evaluation.sentences import Result, gap

Outcome = Literal["pays", "does not pay", "not shown", "unknown"]

_MOST_TIMES = 100
"""Above this multiple, times are given instead: the other run hardly trains."""
_LEAST_TIMES = 0.1
"""Below this multiple, a number with one decimal says nothing."""

_SAID: dict[Outcome, str] = {
    "pays": "The language model pays",
    "does not pay": "The language model does not pay",
    "not shown": "It is not shown that the language model pays",
    "unknown": "Whether the language model pays is unknown, since no trained run without one is compared",
}


def judge(
    result: Result,
    level: float = 0.05,
    *,
    ahead: Sequence[str] = (),
    only_yardsticks: bool = False,
) -> Outcome | None:
    """Judges the run with a language model; None if the difference was not tested.

    `result` is the difference over all users: the run with the model minus the best run without one. The
    model pays if its run is ahead, the Holm-corrected p-value is below `level`, and no other run without a
    language model is ahead of it.

    Args:
        ahead: other runs without a language model that score higher than the one with it.
        only_yardsticks: whether all runs without one only count; beating such a run proves nothing.
    """
    if result.run is None or result.reference is None or result.p_holm is None:
        return None
    if result.p_holm < level and result.run <= result.reference:
        return "does not pay"
    if result.p_holm >= level or ahead:
        return "not shown"
    return "unknown" if only_yardsticks else "pays"


def cost_benefit_sentence(
    model: RunRecord,
    plain: RunRecord,
    result: Result,
    outcome: Outcome,
    ahead: Sequence[str] = (),
) -> str:
    """States the verdict on the run with a language model, its gain over the one without, and its cost.

    `result`, `outcome` and `ahead` are those of `judge`. The sentence states the cost; it does not weigh it
    against the gain.
    """
    rivals = ""
    if ahead:
        above = f"{join_names(list(ahead))} {'is' if len(ahead) == 1 else 'are'} above it"
        below = (result.run or 0.0) <= (result.reference or 0.0)
        rivals = f"; {above} too" if below else f", but {above}"
    where = gap(result) + (f" {plain.name}" if result.reference else f" (from {plain.name})")
    costs = cost_clauses(model, plain)
    return (
        f"{_SAID[outcome]}: {model.name} is {where} on {metric_label(result.metric)} "
        f"({format_p(result.p_holm or 0.0)}), "
        f"{'for ' + join_names(costs) if costs else 'at an unknown cost'}{rivals}."
    )


def cost_clauses(model: RunRecord, plain: RunRecord) -> list[str]:
    """States training time and latency as multiples of another run's, as far as both were measured."""
    parts = []
    ours, theirs = model.total_train_seconds, plain.total_train_seconds
    if ours is not None and theirs is not None:
        texts = ", embedding the texts included" if model.embed_seconds else ""
        included = f" ({texts[2:]})" if texts else ""
        against = f"{format_duration(ours)} against {format_duration(theirs)}"
        parts.append(
            f"{_times(ours, theirs)} the training ({against}{texts})"
            if theirs and ours < _MOST_TIMES * theirs
            else f"{format_duration(ours)} of training against {format_duration(theirs)}{included}"
        )
    if model.latency_ms is not None and plain.latency_ms is not None:
        ms = [format_milliseconds(each.latency_ms) for each in (model, plain)]
        times = _times(model.latency_ms, plain.latency_ms)
        parts.append(f"{times} the latency ({ms[0]} against {ms[1]} a request)")
    return parts


def _times(ours: float, theirs: float) -> str:
    if not theirs:
        return "any number of times"
    ratio = ours / theirs
    if ratio < _LEAST_TIMES:
        return "less than a tenth of"
    return f"{ratio:,.{1 if ratio < 9.95 else 0}f} times"
