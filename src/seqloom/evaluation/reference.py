"""Chooses the run against which the others are tested, without looking at the test part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqloom.evaluation.metrics import metric_label
from seqloom.evaluation.record import RunRecord

CHOSEN_ON = "ndcg@10"
"""The metric of the choice if the tested one was not measured on validation."""


@dataclass(frozen=True)
class Reference:
    """The run against which the others are tested."""

    name: str
    best_without_language_model: bool
    """Whether it is the best run without a language model, against which the others' cost is weighed."""
    reason: str
    """How it was chosen, in one sentence."""
    biased: bool = False
    """Whether it was chosen on the tested part itself."""


def choose_reference(runs: Sequence[RunRecord], metric: str, part: str = "test") -> Reference:
    """Returns the best run without a language model; if all runs use one, the first run.

    The best is chosen on validation: on the tested part, the highest of several noisy metrics is biased
    upwards. The order of `runs` matters only if all use a language model, or if none does and their
    validation metrics are missing.
    """
    plain = [run for run in runs if not run.uses_language_model]
    if not plain:
        return _first(runs, "all are with a language model")
    none_uses_one = len(plain) == len(runs)
    if none_uses_one and not all(metric in r.valid or CHOSEN_ON in r.valid for r in runs):
        return _first(runs, "validation metrics, by which the best is chosen, are missing")
    if len(plain) == 1:
        name = plain[0].name
        return Reference(
            name, True, f"The reference is {name}, the only run without a language model."
        )
    known = metric if all(metric in run.valid for run in plain) else CHOSEN_ON
    on_validation = all(known in run.valid for run in plain)
    if on_validation:
        values = {run.name: run.valid[known] for run in plain}
        how = "on validation"
        note = "test metrics were not used" if part == "test" else "which is the part tested here"
    else:
        known = metric if all(metric in run.metrics for run in plain) else CHOSEN_ON
        values = {run.name: run.metrics.get(known, 0.0) for run in plain}
        how = "on the tested part itself"
        note = (
            "validation metrics of this protocol are missing, so the choice is biased in its favour"
        )
    best = min(values, key=lambda name: (-values[name], name))  # the name breaks ties
    value = f"{values[best]:.4f}".replace("0.", ".", 1)
    return Reference(
        best,
        True,
        f"The reference is {best}, of the {len(plain)} runs without a language model the one with the "
        f"highest {metric_label(known)} {how} ({value}); {note}.",
        biased=not on_validation or part != "test",
    )


def _first(runs: Sequence[RunRecord], why: str) -> Reference:
    name = runs[0].name
    return Reference(name, False, f"The reference is {name}, the first run: {why}.")
