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


def choose_reference(runs: Sequence[RunRecord], metric: str, part: str = "test") -> Reference:
    """Returns the best run without a language model if there are runs of both kinds, else the first run.

    The best is chosen on validation: on the tested part, the highest of several noisy metrics is biased
    upwards. The order of `runs` matters only if all runs or none use a language model.
    """
    plain = [run for run in runs if not run.uses_language_model]
    if not plain or len(plain) == len(runs):
        what = "without" if plain else "with"
        first = runs[0].name
        return Reference(
            first,
            False,
            f"The reference is {first}, the first run: all are {what} a language model.",
        )
    if len(plain) == 1:
        name = plain[0].name
        return Reference(
            name, True, f"The reference is {name}, the only run without a language model."
        )
    known = metric if all(metric in run.valid for run in plain) else CHOSEN_ON
    if all(known in run.valid for run in plain):
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
    )
