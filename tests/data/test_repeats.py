"""Repeats against naive loops; the decision on seen items by the training part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.data.repeats import PARTS, REPEATS_FROM, RepeatTally, mask_reason, masks_seen
from seqloom.data.split import leave_one_out

HISTORIES = st.lists(st.lists(st.integers(0, 4), max_size=9), min_size=1, max_size=8)


def tally_of(histories: list[list[int]]) -> RepeatTally:
    offsets = np.cumsum([0, *map(len, histories)])
    items = np.array([item for row in histories for item in row], np.int64)
    split = leave_one_out(offsets)
    return RepeatTally.of(items, offsets, split.train_end, split.valid, split.test)


@settings(deadline=None)
@given(HISTORIES)
def test_counts_equal_the_naive_loop(histories: list[list[int]]) -> None:
    events = dict.fromkeys(PARTS, 0)
    gaps: dict[str, list[int]] = {part: [] for part in PARTS}
    for row in histories:
        held_out = len(row) >= 3
        for place in range(1, len(row)):
            part = "train"
            if held_out and place >= len(row) - 2:
                part = "valid" if place == len(row) - 2 else "test"
            events[part] += 1
            before = [place - at for at in range(place) if row[at] == row[place]]
            gaps[part] += [min(before)] if before else []
    tally = tally_of(histories)
    assert tally.events == events
    for part in PARTS:
        expanded = np.repeat(np.arange(len(tally.gaps[part])), tally.gaps[part])
        assert expanded.tolist() == sorted(gaps[part])


@settings(deadline=None)
@given(HISTORIES, HISTORIES)
def test_tallies_add_up(first: list[list[int]], second: list[list[int]]) -> None:
    together = RepeatTally.sum([tally_of(first), tally_of(second)])
    assert together.facts() == tally_of(first + second).facts()


def test_quantiles_of_steps_by_hand() -> None:
    # Gaps in the training part: 1, 1, 2, 4.
    facts = tally_of([[1, 1, 1, 9, 9], [1, 2, 1, 8, 9], [1, 2, 3, 4, 1, 8, 9]]).facts()
    assert facts["train"]["repeats"] == 4
    assert facts["train"]["steps"] == {"p25": 1, "median": 1, "p75": 2, "p90": 4}
    assert facts["test"] == {
        "events": 3,
        "repeats": 1,
        "share": 0.333333,
        "steps": dict.fromkeys(("p25", "median", "p75", "p90"), 1),
    }
    assert facts["valid"]["steps"] is None


@pytest.mark.parametrize(
    ("choice", "share", "masked"),
    [
        ("auto", 0.0, True),
        ("auto", REPEATS_FROM - 1e-9, True),
        ("auto", REPEATS_FROM, False),
        ("yes", 0.9, True),
        ("no", 0.0, False),
    ],
)
def test_the_decision(choice: str, share: float, masked: bool) -> None:
    assert masks_seen(choice, share) == masked  # type: ignore[arg-type]
    reason = mask_reason(choice, masked, share)
    assert ("left out" if masked else "kept") in reason
    assert (f"mask_seen={choice}" in reason) == (choice != "auto")
