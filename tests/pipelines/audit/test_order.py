"""The audit of the order of events: planted faults are found, and yardsticks bound what ties do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from seqloom.data.order_checks import OrderCheck
from seqloom.data.store import Dataset
from seqloom.pipelines.audit import audit
from seqloom.pipelines.audit.order import (
    TransitionScorer,
    check_order,
    order_facts,
    shuffle_ties,
    tie_bounds,
)
from seqloom.pipelines.audit.stored import read_audit
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.prepare import prepare
from support.datasets import tiny_dataset

ITEMS = 60


def rows_of(users: int = 80, length: int = 7, seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.choice(ITEMS, length, replace=False).tolist() for _ in range(users)]


def prepared(path: Path, rows: list[list[int]], at: list[int], **options: object) -> Dataset:
    """Event n of a user has the time `at[n]`, plus the user's number."""
    events = [
        (f"u{user}", f"i{item:02d}", 100 * at[step] + user)
        for user, row in enumerate(rows)
        for step, item in enumerate(row)
    ]
    log = pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row")
    return prepare(log, path, options=PrepareOptions.build({"min_count": 0, **options}))


def by_name(checks: list[OrderCheck]) -> dict[str, OrderCheck]:
    return {check.name: check for check in checks}


def test_counts_of_the_audit_are_those_of_prepare(tmp_path: Path) -> None:
    data = prepared(tmp_path / "data", rows_of(), [0, 1, 1, 2, 3, 4, 4])
    stated = data.manifest.statistics
    for key, value in order_facts(data).items():
        if key == "ties":
            value = {**value, "valid_dropped": 0, "test_dropped": 0}
        assert stated[key] == value, key


def test_a_sorted_data_set_fails_unless_it_was_allowed(tmp_path: Path) -> None:
    rows = [[item + 1 for item in sorted(row)] for row in rows_of()]
    titles = [f"item {n}" for n in range(1, ITEMS + 1)]
    tiny_dataset(tmp_path / "old", rows, titles, allow_sorted=False)  # as an older version made it
    report = audit(tmp_path / "old")
    failed = [check.artefact for check in report.checks if check.verdict == "fail"]
    assert failed == ["order of the events"]
    assert by_name(report.order)["sorted-sequences"].verdict == "error"
    zero_based = [[item - 1 for item in row] for row in rows]
    prepared(tmp_path / "allowed", zero_based, list(range(7)), allow_sorted=True)
    assert audit(tmp_path / "allowed").passed


def test_the_result_is_stored(tmp_path: Path) -> None:
    prepared(tmp_path / "data", rows_of(), list(range(7)))
    report = audit(tmp_path / "data")
    stored = read_audit(tmp_path / "data")
    assert stored is not None
    assert stored.audit.order == report.order
    assert len(report.order) == 9


def test_planted_twins_are_found(tmp_path: Path) -> None:
    rows = [[item + 1 for item in row] for row in rows_of()]
    rows[3], rows[9] = rows[0], rows[0]
    titles = [f"Item, number {n}" for n in range(1, ITEMS + 1)]
    titles[8] = "item NUMBER 4"
    data = tiny_dataset(tmp_path / "data", rows, titles)
    found = by_name(check_order(data, yardsticks=False))
    assert (found["duplicate-users"].verdict, found["duplicate-users"].count) == ("warning", 3)
    assert (found["duplicate-items"].verdict, found["duplicate-items"].count) == ("warning", 2)
    assert "order-within-ties" not in found
    for name in ("tied-targets", "training-after-test"):
        assert found[name].verdict == "unknown"  # there are no times


def test_training_after_test_is_that_of_a_loop(tmp_path: Path) -> None:
    rows = rows_of()
    data = prepared(tmp_path / "data", rows, [0, 3, 9, 20, 21, 22, 30])
    shares = []
    for user in range(80):
        test = 100 * 30 + user
        others = [
            100 * time + other for other in range(80) if other != user for time in (0, 3, 9, 20, 21)
        ]
        shares.append(np.mean([time > test for time in others]))
    found = by_name(check_order(data, yardsticks=False))["training-after-test"]
    assert found.value == pytest.approx(float(np.mean(shares)), abs=1e-6)
    assert found.verdict == "ok"
    # A user who begins when others have ended sees nothing of them, and they see all of the user.
    late = [
        (f"u{u}", f"i{i:02d}", 1000 * u + n)
        for u, row in enumerate(rows)
        for n, i in enumerate(row)
    ]
    log = pl.DataFrame(late, schema=["user_id", "item_id", "timestamp"], orient="row")
    data = prepare(log, tmp_path / "late", options=PrepareOptions(min_count=0))
    found = by_name(check_order(data, yardsticks=False))["training-after-test"]
    assert found.value == pytest.approx(0.5)
    assert "split by time" in found.sentence


def test_order_within_ties_that_helps_is_found(tmp_path: Path) -> None:
    """Each tie holds two rare items and one of ten popular ones, which has the highest id and stands last."""
    random = np.random.default_rng(5)
    rows = []
    for _ in range(150):
        rare, hubs = random.choice(50, 8, replace=False), random.choice(10, 4, replace=False) + 50
        ties = [[*sorted(rare[2 * n : 2 * n + 2]), hubs[n]] for n in range(4)]
        rows.append([int(item) for tie in ties for item in tie])
    data = prepared(tmp_path / "data", rows, [step // 3 for step in range(12)])
    check = by_name(check_order(data))["order-within-ties"]
    assert check.verdict == "warning"
    bounds = {(b.name, b.metric): b for b in tie_bounds(data)}
    popular = bounds["popularity", "hr@10"]
    assert popular.stored == 1.0
    assert all(0.2 < value < 0.6 for value in popular.shuffled)
    assert popular.outside
    untied = prepared(tmp_path / "untied", rows, list(range(12)))
    found = by_name(check_order(untied))["order-within-ties"]
    assert (found.verdict, found.value) == ("ok", 0.0)


def test_a_shuffle_of_a_data_set_is_that_of_prepare(tmp_path: Path) -> None:
    rows, at = rows_of(), [0, 1, 1, 1, 2, 3, 3]
    stored = prepared(tmp_path / "file", rows, at)
    made = prepared(tmp_path / "shuffled", rows, at, ties="shuffle", tie_seed=2)
    again = shuffle_ties(stored, 2)
    assert torch.equal(again.events.items, made.events.items)
    assert not torch.equal(again.events.items, stored.events.items)
    assert torch.equal(again.events.test, stored.events.test)


def test_transitions_are_counted_in_training_alone(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", [[1, 2, 3, 4], [1, 2, 1, 2, 4], [2, 3]], list("abcd"))
    scores = TransitionScorer(data).score(torch.tensor([[1, 2], [1, 0]]), torch.tensor([2, 1]))
    # Training: 1 2; 1 2 1; 2 3.
    assert scores.tolist() == [[1, 0, 1, 0], [0, 2, 0, 0]]
