"""Counts of the order of sequences against enumeration, naive loops and scipy."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from seqloom.data.order import OrderTally, appearance_correlation, id_ranks, training_after_test
from seqloom.data.order_checks import check_facts

HISTORIES = st.lists(st.lists(st.integers(0, 5), max_size=7), min_size=1, max_size=8)
RANKS = {"text": np.arange(6)}


def flat(histories: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *map(len, histories)])
    return np.array([i for row in histories for i in row], np.int64), offsets


@settings(deadline=None)
@given(HISTORIES)
def test_counts_equal_the_naive_loop(histories: list[list[int]]) -> None:
    items, offsets = flat(histories)
    counts = OrderTally.of(items, offsets, RANKS).counts["text"]
    judged = [row for row in histories if len(row) >= 3]
    steps = [(a, b) for row in histories for a, b in itertools.pairwise(row) if a != b]
    last = [row[-2:] for row in histories if len(row) >= 2 and row[-2] != row[-1]]
    assert counts == {
        "ascending": sum(row == sorted(row) for row in judged),
        "descending": sum(row == sorted(row, reverse=True) for row in judged),
        "steps": len(steps),
        "steps_up": sum(a < b for a, b in steps),
        "last_steps": len(last),
        "last_steps_up": sum(a < b for a, b in last),
    }


@pytest.mark.parametrize("row", [[0, 1, 2], [3, 1, 4, 0, 2], [1, 1, 2], [2, 2, 2], [0, 1, 0, 1, 3]])
def test_chance_is_that_of_all_permutations(row: list[int]) -> None:
    orders = list(itertools.permutations(row))
    expected = np.mean([list(order) == sorted(order) for order in orders])
    tally = OrderTally.of(*flat([row]), RANKS)
    assert tally.chance == pytest.approx(expected)


@settings(deadline=None)
@given(HISTORIES, HISTORIES)
def test_tallies_add_up(first: list[list[int]], second: list[list[int]]) -> None:
    def tally(histories: list[list[int]]) -> OrderTally:
        items, offsets = flat(histories)
        return OrderTally.of(items, offsets, RANKS, items * 3 + 1)

    parts = [tally(first), tally(second)]
    whole = tally(first + second)
    assert OrderTally.sum(parts).facts(RANKS) == whole.facts(RANKS)


def test_ids_are_ranked_as_text_and_as_integers() -> None:
    ranks = id_ranks(pl.Series(["10", "9", "1"]))
    assert ranks["text"].tolist() == [1, 2, 0]
    assert ranks["integer"].tolist() == [2, 1, 0]
    assert id_ranks(pl.Series(["i10", "i9", "i1"]))["integer"].tolist() == [2, 1, 0]
    assert id_ranks(pl.Series(["-3", "2", "1"]))["integer"].tolist() == [0, 2, 1]
    for other in (["10", "b"], ["a10", "b9"], ["i1", "i2b"], []):
        assert list(id_ranks(pl.Series(other, dtype=pl.String))) == ["text"]
    assert list(id_ranks(pl.Series(["9" * 30, "1"]))) == ["text"]  # no 64-bit integer


def test_the_correlation_is_that_of_scipy() -> None:
    random = np.random.default_rng(0)
    rank, first = random.permutation(50), random.integers(0, 20, 50)
    expected = stats.spearmanr(rank, first).statistic
    assert appearance_correlation(rank, first) == pytest.approx(expected, abs=1e-4)
    assert appearance_correlation(np.arange(9), None) == 1.0
    assert appearance_correlation(np.arange(2), None) is None
    assert appearance_correlation(np.arange(5), np.zeros(5)) is None


def test_training_events_after_a_test_event_by_hand() -> None:
    # Users 0 and 1: training at 1, 2 and at 4, 9; tests at 3 and 10.
    times = np.array([1, 2, 3, 4, 9, 10])
    users = np.array([0, 0, 0, 1, 1, 1])
    in_training = np.array([1, 1, 0, 1, 1, 0], bool)
    later = training_after_test(times, in_training, users, np.array([2, 5]))
    assert later.tolist() == [1.0, 0.0]


def facts_of(histories: list[list[int]], num_items: int, **more: object) -> dict[str, object]:
    items, offsets = flat(histories)
    ranks = {"text": np.arange(num_items)}
    times = np.random.default_rng(0).integers(0, 10**6, len(items))
    nothing = {"events": 900, "repeats": 0, "share": 0.0, "steps": None}
    return {
        "order": OrderTally.of(items, offsets, ranks, times).facts(ranks),
        "repeats": dict.fromkeys(("train", "valid", "test"), nothing),
        "mask_seen": True,
        "valid_targets": 100,
        "test_targets": 100,
        **more,
    }


def verdicts(facts: dict[str, object], **options: bool) -> dict[str, str]:
    return {check.name: check.verdict for check in check_facts(facts, **options)}


def random_histories(count: int = 400) -> list[list[int]]:
    random = np.random.default_rng(3)
    return [random.choice(200, 6, replace=False).tolist() for _ in range(count)]


def test_random_order_passes() -> None:
    found = verdicts(facts_of(random_histories(), 200))
    assert found == {
        "sorted-sequences": "ok",
        "id-ordered-steps": "ok",
        "ids-carry-order": "ok",
        "tied-targets": "unknown",
        "repeated-targets": "ok",
    }


@pytest.mark.parametrize("reverse", [False, True])
def test_sorted_sequences_are_an_error_unless_allowed(reverse: bool) -> None:
    facts = facts_of([sorted(row, reverse=reverse) for row in random_histories()], 200)
    assert verdicts(facts)["sorted-sequences"] == "error"
    assert verdicts(facts, allow_sorted=True)["sorted-sequences"] == "warning"
    check = check_facts(facts)[0]
    assert ("descending" if reverse else "ascending") in check.sentence
    assert "100.0%" in check.sentence


def test_a_part_of_sorted_sequences_is_a_warning() -> None:
    histories = random_histories()
    facts = facts_of([sorted(row) if n % 8 == 0 else row for n, row in enumerate(histories)], 200)
    assert verdicts(facts)["sorted-sequences"] == "warning"


def test_few_sequences_are_not_judged() -> None:
    facts = facts_of([sorted(row) for row in random_histories(29)], 200)
    assert verdicts(facts)["sorted-sequences"] == "unknown"


def test_targets_in_the_order_of_ids_are_found_without_times() -> None:
    """Of 40 % of the users the last two events are sorted, as where they share a day."""
    histories = [
        [*row[:-2], *sorted(row[-2:])] if n % 5 < 2 else row
        for n, row in enumerate(random_histories(2000))
    ]
    check = next(c for c in check_facts(facts_of(histories, 200)) if c.name == "id-ordered-steps")
    assert check.verdict == "warning"
    assert check.value == pytest.approx(0.4, abs=0.06)


def test_shares_of_ties_and_repeats_by_hand() -> None:
    ties = {"events": 30, "of": 1000, "valid": 2, "test": 7}
    repeats = {"events": 100, "repeats": 8, "share": 0.08, "steps": None}
    facts = facts_of(
        random_histories(),
        200,
        ties=ties,
        repeats=dict.fromkeys(("train", "valid", "test"), repeats),
    )
    found = {check.name: check for check in check_facts(facts)}
    assert (found["tied-targets"].verdict, found["tied-targets"].value) == ("warning", 0.07)
    assert "3.0% of the events, 2.0% of the validation" in found["tied-targets"].sentence
    assert (found["repeated-targets"].verdict, found["repeated-targets"].value) == ("warning", 0.08)
    assert verdicts({**facts, "mask_seen": False})["repeated-targets"] == "ok"
