"""Judges the order of a data set: each check has a value, a threshold and a sentence.

The counts come from `data.order`, `data.ties` and `data.repeats`; checks that need the whole data set are
made by `pipelines.audit.order`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from seqloom.core.config import Config

FEWEST_SEQUENCES = 30
"""Fewer sequences are not judged: all of them can be sorted by chance."""
SORTED_ERROR = 0.5
SORTED_WARNING = 0.05
STEPS_WARNING = 0.1
CORRELATION_WARNING = 0.5
TIES_WARNING = 0.05
REPEATS_WARNING = 0.05
DUPLICATES_WARNING = 0.01
LEAK_WARNING = 0.1
SHUFFLE_WARNING = 0.05
_SIGNIFICANT = 4.0
"""Standard errors by which a share of steps must differ from one half."""

Verdict = Literal["ok", "warning", "error", "unknown"]


class OrderCheck(Config):
    """The verdict of one check of a data set's order."""

    name: str
    value: float | None
    """The measured share or correlation; None where it cannot be measured."""
    threshold: float
    """The value from which the check warns."""
    verdict: Verdict
    """`unknown`: what the check needs is not in the data."""
    sentence: str
    """The result in one sentence."""
    count: int = 0
    """Sequences, events or items that the check found."""


def check_facts(statistics: Mapping[str, Any], *, allow_sorted: bool = False) -> list[OrderCheck]:
    """Judges what `prepare` counts: `statistics` has the keys `order`, `ties`, `repeats` and `mask_seen`.

    With `allow_sorted`, sorted sequences are a warning.
    """
    order = statistics["order"]
    return [
        _check_sorted(order, allow_sorted=allow_sorted),
        _check_steps(order),
        _check_ids(order),
        _check_ties(statistics),
        _check_repeats(statistics),
    ]


def judged(
    name: str, value: float, threshold: float, sentence: str, *, count: int = 0
) -> OrderCheck:
    """Builds a check that warns from its threshold on."""
    verdict: Verdict = "warning" if value >= threshold else "ok"
    return OrderCheck(
        name=name,
        value=round(value, 6),
        threshold=threshold,
        verdict=verdict,
        sentence=sentence,
        count=count,
    )


def unknown(name: str, threshold: float, sentence: str) -> OrderCheck:
    """Builds a check that cannot be made."""
    return OrderCheck(
        name=name, value=None, threshold=threshold, verdict="unknown", sentence=sentence
    )


def _check_sorted(order: Mapping[str, Any], *, allow_sorted: bool) -> OrderCheck:
    """Sequences in the order of their item ids, beyond what chance gives."""
    name, number, chance = "sorted-sequences", order["sequences"], order["sorted_by_chance"]
    if number < FEWEST_SEQUENCES:
        return unknown(
            name, SORTED_WARNING, f"{number} sequences of 3 events or more are too few to judge"
        )
    share, reading, direction = max(
        (shares[direction], reading, direction)
        for reading, shares in order["ids"].items()
        for direction in ("ascending", "descending")
    )
    beyond = (share - chance) / max(1 - chance, 1e-12)
    sentence = (
        f"{share:.1%} of the sequences are in {direction} order of their item ids (as {reading}); chance "
        f"gives {chance:.1%}"
    )
    check = judged(name, beyond, SORTED_WARNING, sentence, count=round(share * number))
    if beyond < SORTED_ERROR:
        return check
    sentence += ": this is no order of time, unless ids were given in the order of time"
    return check.model_copy(
        update={"verdict": "warning" if allow_sorted else "error", "sentence": sentence}
    )


def _check_steps(order: Mapping[str, Any]) -> OrderCheck:
    """Steps to a higher id at the end of sequences, where targets are."""
    name, number = "id-ordered-steps", order["last_steps"]
    if number < FEWEST_SEQUENCES:
        return unknown(name, STEPS_WARNING, f"{number} last steps are too few to judge")
    up, reading = max(
        ((s["last_steps_up"], r) for r, s in order["ids"].items()), key=lambda e: abs(e[0] - 0.5)
    )
    everywhere = order["ids"][reading]["steps_up"]
    beyond = abs(2 * up - 1)
    sentence = (
        f"{up:.1%} of the users' last steps go to a higher item id (as {reading}), of all steps "
        f"{everywhere:.1%}; where order and id are unrelated it is 50 %"
    )
    check = judged(name, beyond, STEPS_WARNING, sentence, count=number)
    if abs(up - 0.5) < _SIGNIFICANT * math.sqrt(0.25 / number):
        return check.model_copy(update={"verdict": "ok"})
    if check.verdict == "warning":
        sentence += (
            f", so it seems that about {beyond:.0%} of the users have their last two events in the order of "
            "ids and not of time"
        )
    return check.model_copy(update={"sentence": sentence})


def _check_ids(order: Mapping[str, Any]) -> OrderCheck:
    """Item ids that say when an item appeared."""
    name = "ids-carry-order"
    known = [
        (shares["first_appearance"], reading)
        for reading, shares in order["ids"].items()
        if shares["first_appearance"] is not None
    ]
    if not known or order["sequences"] < FEWEST_SEQUENCES:
        return unknown(name, CORRELATION_WARNING, "there are too few items or sequences to judge")
    rho, reading = max(known, key=lambda entry: abs(entry[0]))
    by = "by time" if order["appearance"] == "time" else "in the file"
    sentence = f"item ids (as {reading}) and their first appearance {by} have the rank correlation {rho:+.2f}"
    if abs(rho) >= CORRELATION_WARNING:
        sentence += ": an id says how new an item is, so decide nothing by the order of ids"
    return judged(name, abs(rho), CORRELATION_WARNING, sentence)


def _check_ties(statistics: Mapping[str, Any]) -> OrderCheck:
    """Test targets whose time ties with another item of the user."""
    name, ties = "tied-targets", statistics.get("ties")
    if ties is None:
        return unknown(name, TIES_WARNING, "times are not known, so neither are ties")
    shares = {
        "events": ties["events"] / max(ties["of"], 1),
        "valid": ties["valid"] / max(statistics["valid_targets"], 1),
        "test": ties["test"] / max(statistics["test_targets"], 1),
    }
    sentence = (
        f"{shares['events']:.1%} of the events, {shares['valid']:.1%} of the validation targets and "
        f"{shares['test']:.1%} of the test targets have the time of another item of their user"
    )
    worst = max(shares["valid"], shares["test"])
    return judged(name, worst, TIES_WARNING, sentence, count=ties["events"])


def _check_repeats(statistics: Mapping[str, Any]) -> OrderCheck:
    """Targets in the user's history, which masking makes unreachable."""
    repeats = statistics["repeats"]
    train, valid, test = (repeats[part]["share"] for part in ("train", "valid", "test"))
    sentence = (
        f"{train:.1%} of the training events, {valid:.1%} of the validation targets and {test:.1%} of the "
        "test targets repeat an item of the user's history"
    )
    if not statistics["mask_seen"]:
        sentence += "; seen items are kept in the ranking"
        threshold = 1.0
    else:
        sentence += "; seen items are masked, so no list can hold such a target"
        threshold = REPEATS_WARNING
    count = repeats["valid"]["repeats"] + repeats["test"]["repeats"]
    check = judged("repeated-targets", max(valid, test), threshold, sentence, count=count)
    few = max(repeats[part]["events"] for part in ("valid", "test")) < FEWEST_SEQUENCES
    return check.model_copy(update={"verdict": "ok"}) if few else check
