"""docs/scale.md against its unit costs, and its arithmetic against small cases by hand."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.scale import figures
from benchmarks.scale.__main__ import PAGE, filled, tables
from benchmarks.scale.plan import Plan, Prices, ann_ms, item_bytes, unit_costs
from benchmarks.scale.queueing import highest_load, p99_ms


def test_the_page_shows_the_figures_of_the_costs() -> None:
    page = PAGE.read_text(encoding="utf-8")
    actual = tables(Plan(), Prices(), unit_costs())
    assert set(re.findall(r"<!-- (\w+) -->", page)) - {"end"} == set(actual)
    assert filled(page, actual) == page, "run python -m benchmarks.scale"


def test_every_cost_that_is_named_was_measured() -> None:
    names = re.findall(r"`([a-z]+(?:_[a-z0-9]+)+)`", PAGE.read_text(encoding="utf-8"))
    named = {name for name in names if re.search(r"_(us|ns|ms|bytes|gflops)(_|$)", name)}
    assert named
    assert named <= set(unit_costs())


def test_a_mark_of_no_table_is_refused() -> None:
    with pytest.raises(KeyError, match="nothing"):
        filled("<!-- nothing -->\n<!-- end -->", {})


def test_limits_come_in_their_order_and_add_up() -> None:
    costs = {**unit_costs(), "score_ns_per_item_alone": 100.0, "python_bytes_per_item": 928.0}
    plan = Plan(p99_ms=50, memory_gib=4)
    assert item_bytes(costs) == 4000
    rows = [at for _, at, _ in figures.limits(plan, costs)]
    assert rows == sorted(rows)
    assert 500_000 in rows  # 50 ms / 100 ns
    assert 2**24 / 64 in rows
    assert any(at == pytest.approx(4 * 2**30 / 4000) for at in rows)


def test_a_search_costs_its_centres_and_its_codes() -> None:
    plan = Plan(items=1_000_000, lists=1000, probed=10)
    costs = {"ann_ns_per_centre": 50.0, "ann_ns_per_code": 2.0}
    assert ann_ms(plan, costs) == pytest.approx((1000 * 50 + 10_000 * 2) / 1e6)


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_the_simulation_agrees_with_the_formula_of_one_core(load: float) -> None:
    # M/M/1: the time to an answer is exponential with rate mu - lambda.
    exact = math.log(100) / (1 - load)
    actual = [p99_ms(1.0, 1, load, seed=seed) for seed in range(4)]
    assert sum(actual) / len(actual) == pytest.approx(exact, rel=0.12)


def test_more_load_takes_longer_and_more_cores_less() -> None:
    waits = [p99_ms(2.0, 4, load) for load in (0.3, 0.6, 0.9)]
    assert waits == sorted(waits)
    assert p99_ms(2.0, 16, 0.9) < p99_ms(2.0, 4, 0.9)


def test_the_highest_load_leaves_room_for_a_failure() -> None:
    assert highest_load(2.0, 16, 1e9, servers=2) == 0.45
    assert highest_load(2.0, 16, 1e9, servers=10) == 0.85
    assert highest_load(2.0, 16, 12.0, servers=10) < 0.85
