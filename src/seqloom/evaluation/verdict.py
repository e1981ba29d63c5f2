"""The verdict of a comparison: one sentence, the evidence for it, and what to be careful about.

Everything is derived from the tests; where nothing is shown the verdict says that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from seqloom.core.config import Config
from seqloom.core.number_format import format_p, join_names
from seqloom.evaluation.cost_benefit import Outcome, cost_clauses
from seqloom.evaluation.metrics import metric_label
from seqloom.evaluation.record import RunRecord
from seqloom.evaluation.reference import Reference
from seqloom.evaluation.sentences import Result, gap, is_shown
from seqloom.evaluation.wording import ALL_USERS, in_group

_HEADLINES: dict[Outcome, str] = {
    "pays": "On this data, the language model pays.",
    "does not pay": "On this data, the language model does not pay.",
    "not shown": "On this data, no gain from the language model is shown.",
    "unknown": "Whether the language model pays is unknown: no trained run without one is compared.",
}
_MOST_NAMES = 4
"""Longer lists of runs are counted."""
_BEST_FIRST: tuple[Outcome, ...] = ("pays", "unknown", "not shown", "does not pay")
_WORDS = (
    "No trained run without a language model reads the items' words, which may be what pays: train "
    "texttower, which reads them alone."
)


class Verdict(Config):
    """What the tests of a comparison say, for someone who decides."""

    outcome: Outcome | None = None
    """Whether a language model pays; None unless runs with and without one are compared."""
    headline: str
    """One sentence without numbers."""
    run: str | None = None
    """The run that the headline is about: of the runs with the best outcome, the one that scores highest."""
    evidence: list[str] = Field(default_factory=list)
    """Sentences with the gaps to the reference."""
    cautions: list[str] = Field(default_factory=list)
    """What limits the verdict: seeds, data, the choice of the reference."""


def build_verdict(
    records: Sequence[RunRecord],
    reference: Reference,
    overall: dict[str, Result],
    outcomes: dict[str, Outcome],
    level: float = 0.05,
    by_group: Mapping[str, Sequence[Result]] | None = None,
) -> Verdict:
    """Builds the verdict from the tests on the first metric.

    Args:
        overall: each run but the reference -> its difference from the reference over all users.
        outcomes: each judged run with a language model -> its outcome.
        by_group: each run but the reference -> its differences by group of users.
    """
    known = {record.name: record for record in records}
    cautions = _cautions(records, reference)
    if not outcomes:
        return Verdict(
            headline=_headline_of_ranking(reference.name, overall, level),
            evidence=_ranked(reference.name, overall, level),
            cautions=cautions,
        )
    best = next(each for each in _BEST_FIRST if each in outcomes.values())
    gains = {name: _gains((by_group or {}).get(name, ()), level) for name in outcomes}
    run = max(
        (name for name in outcomes if outcomes[name] == best),
        key=lambda name: (best == "not shown" and bool(gains[name]), _run(overall[name])),
    )
    rest = [name for name in outcomes if name != run]
    first = _gap_sentence(run, reference.name, overall[run], level)
    costs = cost_clauses(known[run], known[reference.name])
    evidence = [f"{first[:-1]}, for {join_names(costs)}." if costs else first]
    evidence += _others(rest, outcomes)
    evidence += _yardstick(known, reference.name, overall, level)
    headline = _HEADLINES[best]
    if best == "not shown" and gains[run]:
        where = join_names([in_group(each.group) for each in gains[run]])
        evidence[1:1] = [_group_sentence(run, reference.name, each) for each in gains[run]]
        headline = (
            f"On this data, a gain from the language model is shown {where}, not over all users."
        )
    if best == "pays" and known[run].reads_text and not _words_are_compared(records):
        cautions.append(_WORDS)
    return Verdict(outcome=best, headline=headline, run=run, evidence=evidence, cautions=cautions)


def _words_are_compared(records: Sequence[RunRecord]) -> bool:
    """Returns whether a trained run reads the texts without a language model."""
    return any(
        record.reads_text and not (record.uses_language_model or record.yardstick)
        for record in records
    )


def _gains(results: Sequence[Result], level: float) -> list[Result]:
    """Returns the gains by group that are shown; none where a loss is shown for another group."""
    shown = [r for r in results if r.group != ALL_USERS and is_shown(r, level)]
    gains = [r for r in shown if _run(r) > (r.reference or 0.0)]
    return gains if len(gains) == len(shown) else []


def _group_sentence(run: str, reference: str, result: Result) -> str:
    """States the gap in one group of users."""
    where = gap(result) + (f" {reference}" if result.reference else f" (from {reference})")
    group = in_group(result.group)
    p = format_p(1.0 if result.p_holm is None else result.p_holm)
    return f"{group[0].upper()}{group[1:]} {run} scores {where} ({p})."


def _run(result: Result) -> float:
    return result.run or 0.0


def _gap_sentence(run: str, reference: str, result: Result, level: float) -> str:
    """States one gap, and that it may be chance where it may."""
    where = gap(result) + (f" {reference}" if result.reference else f" (from {reference})")
    p = format_p(1.0 if result.p_holm is None else result.p_holm)
    chance = p if is_shown(result, level) else f"may be chance, {p}"
    return f"{run} scores {where} on {metric_label(result.metric)} ({chance})."


def _others(names: list[str], outcomes: dict[str, Outcome]) -> list[str]:
    """Tells what holds of the further runs with a language model."""
    words: dict[Outcome, str] = {
        "pays": "a gain is shown for {} too",
        "unknown": "a gain over a system that only counts is shown for {}",
        "not shown": "no gain is shown for {}",
        "does not pay": "a loss is shown for {}",
    }
    by_outcome = {o: [n for n in names if outcomes[n] == o] for o in _BEST_FIRST}
    parts = [
        words[outcome].format(
            join_names(found) if len(found) <= _MOST_NAMES else f"{len(found)} more"
        )
        for outcome, found in by_outcome.items()
        if found
    ]
    return [f"Of the other runs with a language model, {join_names(parts)}."] if parts else []


def _yardstick(
    known: dict[str, RunRecord], reference: str, overall: dict[str, Result], level: float
) -> list[str]:
    """Compares the reference with the weakest run without a language model that only counts."""
    names = [
        name
        for name in overall
        if known[name].yardstick and not known[name].uses_language_model and name != reference
    ]
    if not names:
        return []
    lowest = min(names, key=lambda name: _run(overall[name]))
    return [_gap_sentence(lowest, reference, overall[lowest], level)]


def _headline_of_ranking(reference: str, overall: dict[str, Result], level: float) -> str:
    above = [n for n, r in overall.items() if is_shown(r, level) and _run(r) > (r.reference or 0.0)]
    if above:
        best = max(above, key=lambda name: _run(overall[name]))
        return f"On this data, {best} is ahead of {reference}."
    below = [n for n, r in overall.items() if is_shown(r, level)]
    if len(below) == len(overall):
        others = "all other runs" if len(overall) > 1 else next(iter(overall), "")
        return f"On this data, {reference} is ahead of {others}."
    return f"On this data, no run is shown to be better than {reference}."


def _ranked(reference: str, overall: dict[str, Result], level: float) -> list[str]:
    """States the gaps of the best two other runs and of the worst."""
    order = sorted(overall, key=lambda name: -_run(overall[name]))
    chosen = dict.fromkeys([*order[:2], *order[-1:]])
    return [_gap_sentence(name, reference, overall[name], level) for name in chosen]


def _cautions(records: Sequence[RunRecord], reference: Reference) -> list[str]:
    seeds: dict[str, set[int]] = {}
    for record in records:
        if not record.yardstick:
            seeds.setdefault(record.series or record.name, set()).add(record.seed)
    cautions = ["One data set: another may turn the order."]
    alone = sum(len(each) == 1 for each in seeds.values())
    if seeds and alone == len(seeds):
        used = sorted({seed for each in seeds.values() for seed in each})
        numbers = f" ({used[0]})" if len(used) == 1 else ""
        cautions.append(f"One seed each{numbers}: another training may turn close results.")
    elif alone:
        cautions.append(f"{alone} of {len(seeds)} systems were trained with one seed only.")
    unused = [record.name for record in records if record.unused_language_model]
    if unused:
        cautions.append(f"The language model of {join_names(unused)} has no weight in the scores.")
    if reference.biased:
        cautions.append(
            f"{reference.name} was chosen as the reference on the part that is tested, which flatters it."
        )
    return cautions
