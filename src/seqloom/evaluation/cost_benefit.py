"""States in one sentence the gain of a language model, its certainty and its cost."""

from __future__ import annotations

from collections.abc import Sequence

from seqloom.evaluation.metrics import metric_label
from seqloom.evaluation.record import RunRecord
from seqloom.evaluation.sentences import Result, format_p


def cost_benefit_sentence(
    run: RunRecord,
    reference: RunRecord,
    result: Result,
    level: float = 0.05,
    *,
    ahead: Sequence[str] = (),
    only_yardsticks: bool = False,
) -> str | None:
    """Returns the verdict on the run with a language model; None unless exactly one of the two uses one.

    `result` is the difference over all users, run minus reference. The model pays if its run is ahead, the
    Holm-corrected p-value is below `level`, and no other run without a language model is ahead of it. The
    sentence states the cost; it does not weigh it against the gain.

    Args:
        ahead: runs without a language model that score higher than the one with it on the tested metric.
        only_yardsticks: whether all runs without one only count; beating such a run proves nothing.
    """
    if run.uses_language_model == reference.uses_language_model:
        return None
    if result.run is None or result.reference is None or result.p_holm is None:
        return None
    model, plain = (run, reference) if run.uses_language_model else (reference, run)
    # `result` is run minus reference; the sentence needs model minus plain.
    gain = result.run - result.reference
    gain = gain if model is run else -gain
    base = result.reference if model is run else result.run
    amount = f"{100 * abs(gain) / base:.1f} %" if base else f"{abs(gain):.4f} (from 0)"
    label, p = metric_label(result.metric), format_p(result.p_holm)
    others = [name for name in ahead if name != plain.name]
    if result.p_holm < level and gain <= 0:
        verdict = "The language model does not pay"
    elif result.p_holm >= level or others:
        verdict = "It is not shown that the language model pays"
    elif only_yardsticks:
        verdict = "Whether the language model pays is unknown, since no trained run without one is compared"
    else:
        verdict = "The language model pays"
    rivals = ""
    if others:
        above = f"{_list_names(others)} above it"
        rivals = f"; {above} too" if gain <= 0 else f", but {above}"
    where = "above" if gain >= 0 else "below"
    return (
        f"{verdict}: {model.name} is {amount} {where} {plain.name} on {label} ({p}), "
        f"{_costs(model, plain)}{rivals}."
    )


def _list_names(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} is"
    return f"{', '.join(names[:-1])} and {names[-1]} are"


def _costs(model: RunRecord, plain: RunRecord) -> str:
    parts = []
    ours, theirs = model.total_train_seconds, plain.total_train_seconds
    if ours is not None and theirs is not None:
        texts = ", embedding the texts included" if model.embed_seconds else ""
        parts.append(
            f"{_times(ours, theirs)} the training ({ours:,.0f} s against {theirs:,.0f} s{texts})"
        )
    if model.latency_ms is not None and plain.latency_ms is not None:
        times = _times(model.latency_ms, plain.latency_ms)
        parts.append(
            f"{times} the latency ({model.latency_ms:.1f} ms against {plain.latency_ms:.1f} ms a request)"
        )
    return f"for {' and '.join(parts)}" if parts else "at an unknown cost"


def _times(ours: float, theirs: float) -> str:
    return f"{ours / theirs:,.1f} times" if theirs else "any number of times"
