"""Budgets of a request to a language model: seconds, tokens, money. They hold for any number of threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from seqloom.core.errors import LanguageModelError


class BudgetError(LanguageModelError):
    """A budget is used up. The message names no host and no folder."""


@dataclass(frozen=True)
class Usage:
    """What was used."""

    tokens_in: int = 0
    tokens_out: int = 0
    money: float = 0.0
    calls: int = 0
    cached: int = 0
    """Answers that were kept from before."""

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return self.tokens_in + self.tokens_out


class Budget:
    """The budget of one request. A call reserves the most that it can use, and returns what it did not."""

    def __init__(
        self,
        seconds: float,
        tokens: int,
        *,
        money: float | None = None,
        price_in: float = 0.0,
        price_out: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prices are those of a million tokens."""
        self._clock = clock
        self._began = clock()
        self._seconds, self._tokens, self._money = seconds, tokens, money
        self._prices = price_in / 1e6, price_out / 1e6
        self._used = [0, 0]
        self._reserved = [0, 0]
        self._calls = self._cached = 0
        self._lock = threading.Lock()

    @property
    def seconds_left(self) -> float:
        """Seconds until the request has to be answered; may be negative."""
        return self._seconds - (self._clock() - self._began)

    @property
    def seconds(self) -> float:
        """Seconds since the request began."""
        return self._clock() - self._began

    @property
    def usage(self) -> Usage:
        """What was used so far; calls under way count with the most that they can use."""
        with self._lock:
            used = [sum(pair) for pair in zip(self._used, self._reserved, strict=True)]
            return Usage(used[0], used[1], self._cost(*used), self._calls, self._cached)

    def check_time(self) -> None:
        """Raises `BudgetError` where the time is over."""
        if self.seconds_left <= 0:
            raise BudgetError(f"the budget of {self._seconds:g} s is used up")

    def reserve(self, tokens_in: int, tokens_out: int) -> None:
        """Reserves a call.

        Raises:
            BudgetError: it might exceed the tokens or the money, or the time is over.
        """
        self.check_time()
        with self._lock:
            total = [
                used + reserved + new
                for used, reserved, new in zip(
                    self._used, self._reserved, (tokens_in, tokens_out), strict=True
                )
            ]
            if sum(total) > self._tokens:
                raise BudgetError(f"the budget of {self._tokens} tokens is used up")
            if self._money is not None and self._cost(*total) > self._money:
                raise BudgetError(f"the budget of {self._money:g} in money is used up")
            self._reserved[0] += tokens_in
            self._reserved[1] += tokens_out
            self._calls += 1

    def settle(self, reserved: tuple[int, int], used: tuple[int, int]) -> None:
        """Replaces a reservation by what was used."""
        with self._lock:
            for at in range(2):
                self._reserved[at] -= reserved[at]
                self._used[at] += used[at]

    def from_cache(self) -> None:
        """Counts an answer that cost nothing."""
        with self._lock:
            self._cached += 1

    def _cost(self, tokens_in: int, tokens_out: int) -> float:
        return tokens_in * self._prices[0] + tokens_out * self._prices[1]
