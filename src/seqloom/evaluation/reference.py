"""Which run the others are tested against, chosen before the test part is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqloom.evaluation.metrics import metric_label
from seqloom.evaluation.record import RunRecord

CHOSEN_ON = "ndcg@10"
"""The validation metric where the tested one was not measured on validation."""


@dataclass(frozen=True)
class Reference:
    """The run that the others are tested against."""

    name: str
    judges: bool
    """Whether it is the best run without a language model, against which one pays or does not."""
    why: str
    """How it was chosen, in one sentence."""


def choose_reference(runs: Sequence[RunRecord], metric: str, part: str = "test") -> Reference:
    """The best run without a language model where there are runs with one, else the first run.

    The best on validation: chosen on the tested part, the highest of several noisy figures would be
    flattered by the noise. The order of `runs` does not matter but where there is nothing to judge.
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
        figures = {run.name: run.valid[known] for run in plain}
        how = "on validation"
        note = (
            "the tested figures had no say" if part == "test" else "which is the part tested here"
        )
    else:
        known = metric if all(metric in run.metrics for run in plain) else CHOSEN_ON
        figures = {run.name: run.metrics.get(known, 0.0) for run in plain}
        how = "on the tested part itself"
        note = "validation figures of this protocol are missing, and the choice favours it"
    best = min(figures, key=lambda name: (-figures[name], name))
    value = f"{figures[best]:.4f}".replace("0.", ".", 1)
    return Reference(
        best,
        True,
        f"The reference is {best}, of the {len(plain)} runs without a language model the one with the "
        f"highest {metric_label(known)} {how} ({value}); {note}.",
    )
