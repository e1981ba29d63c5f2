"""Budgets: what is reserved, what is used, for any number of threads."""

from __future__ import annotations

import threading

import pytest

from seqloom.core.errors import LanguageModelError
from seqloom.llm.budget import Budget


def test_a_reservation_is_replaced_by_what_was_used() -> None:
    budget = Budget(10, 100)
    budget.reserve(60, 10)
    assert budget.usage.tokens == 70
    with pytest.raises(LanguageModelError, match="100 tokens"):
        budget.reserve(40, 0)
    budget.settle((60, 10), (20, 5))
    budget.reserve(40, 0)
    assert (budget.usage.tokens_in, budget.usage.tokens_out, budget.usage.calls) == (60, 5, 2)


def test_money_is_counted_by_both_prices() -> None:
    budget = Budget(10, 10**9, money=3.0, price_in=1.0, price_out=4.0)
    budget.reserve(1_000_000, 500_000)
    assert budget.usage.money == pytest.approx(3.0)
    with pytest.raises(LanguageModelError, match="money"):
        budget.reserve(1, 0)


def test_time_is_checked_before_a_call() -> None:
    now = [0.0]
    budget = Budget(2, 100, clock=lambda: now[0])
    budget.reserve(1, 1)
    now[0] = 2.5
    assert budget.seconds_left == -0.5
    with pytest.raises(LanguageModelError, match="2 s"):
        budget.reserve(1, 1)


def test_threads_cannot_exceed_it_together() -> None:
    budget = Budget(60, 1000)
    allowed: list[int] = []

    def reserve() -> None:
        for _ in range(100):
            try:
                budget.reserve(7, 3)
            except LanguageModelError:
                continue
            allowed.append(1)

    threads = [threading.Thread(target=reserve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(allowed) == 100
    assert budget.usage.tokens == 1000
