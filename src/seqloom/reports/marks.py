"""Colour and shape of each run: one of each, the same in every chart of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqloom.evaluation.compare import Comparison
from seqloom.evaluation.metrics import parse_metric
from seqloom.reports.data import SystemResult

SLOTS = 8
"""Colours with a shape of their own; the style sheet names them s1 to s8."""
BASELINE_SLOT = 8
QUIET_SLOT = 0
"""Of runs that are not under discussion where there are more runs than colours."""


@dataclass(frozen=True)
class Marks:
    """The slot of each run, and the runs that headings speak of."""

    slots: dict[str, int]
    subject: str
    """The run that the verdict is about, or the best other run."""
    reference: str

    def __getitem__(self, name: str) -> int:
        return self.slots[name]


def assign_marks(systems: Sequence[SystemResult], comparison: Comparison) -> Marks:
    """Gives each run a slot, in order; a baseline that only counts always has the last one.

    With more runs than slots, only the reference, the subject and one further run are coloured: the
    best of all, or else the best that was trained without a language model.
    """
    metric = comparison.metric
    by_score = sorted(systems, key=lambda s: -s.metrics.get(metric, 0.0))
    others = [s.name for s in by_score if s.name != comparison.reference]
    subject = comparison.verdict.run or others[0]
    names = [system.name for system in systems]
    if len(systems) > SLOTS:
        plain = [s.name for s in by_score if not (s.uses_language_model or s.yardstick)]
        chosen = dict.fromkeys([comparison.reference, subject, by_score[0].name, *plain[:2]])
        slots = {name: slot for slot, name in enumerate(list(chosen)[:3], start=1)}
        return Marks({n: slots.get(n, QUIET_SLOT) for n in names}, subject, comparison.reference)
    baseline = next((s.name for s in systems if s.yardstick and not s.uses_language_model), None)
    free = iter(range(1, SLOTS + 1))
    slots = {n: BASELINE_SLOT if n == baseline else next(free) for n in names}
    return Marks(slots, subject, comparison.reference)


def hit_metric(metric: str) -> str:
    """Returns the hit rate at a metric's cut-off."""
    cutoff = parse_metric(metric)[1]
    return f"hr@{cutoff or 10}"
