"""Runs several models under one latency budget: the best that answers in time.

A model is called if its recent latency leaves time for those after it. If it does not answer in time, the
next one is called. The last one is always called and awaited.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from seqloom.core.errors import SeqloomError
from seqloom.serving.engine.engine import Engine
from seqloom.serving.engine.queries import Answer, Recommend

_FORGET_AFTER_S = 10.0
"""A model that was skipped for this long is tried again: it may have become faster."""
_SMOOTHING = 0.2


@dataclass(frozen=True)
class Step:
    """The outcome of one model of the cascade."""

    model: str
    outcome: str
    """answered, skipped, late or failed."""
    reason: str
    """In words, with the times."""


class RecentLatency:
    """Estimates a model's latency: a moving mean plus twice the mean deviation."""

    def __init__(self) -> None:
        self._mean = self._deviation = 0.0
        self._seen_at = float("-inf")

    def expect(self, now: float) -> float:
        """Returns the expected seconds; 0 where no recent latency is known."""
        if now - self._seen_at > _FORGET_AFTER_S:
            return 0.0
        return self._mean + 2 * self._deviation

    def record(self, seconds: float, now: float) -> None:
        """Records the seconds that an answer took, at least."""
        fresh = now - self._seen_at > _FORGET_AFTER_S
        apart = 0.0 if fresh else abs(seconds - self._mean)
        self._mean = seconds if fresh else self._mean + _SMOOTHING * (seconds - self._mean)
        self._deviation = 0.0 if fresh else self._deviation + _SMOOTHING * (apart - self._deviation)
        self._seen_at = now


class Cascade:
    """`names` are models of `engine`, the best first.

    Raises:
        UnknownModelError: one of them is not served.
    """

    def __init__(self, engine: Engine, names: Sequence[str]) -> None:
        self._engine = engine
        self.names = [engine.model(name).name for name in names]
        self._latency = {name: RecentLatency() for name in names}

    async def recommend(self, query: Recommend, budget_s: float) -> tuple[Answer, list[Step]]:
        """Returns the first answer that comes in time, and the outcome of each model before it.

        Raises:
            SeqloomError: the last model failed too.
        """
        ends = time.perf_counter() + budget_s
        steps: list[Step] = []
        for at, name in enumerate(self.names):
            last = at == len(self.names) - 1
            now = time.perf_counter()
            after = sum(self._latency[other].expect(now) for other in self.names[at + 1 :][-1:])
            left = ends - now - after
            expected = self._latency[name].expect(now)
            if not last and expected > left:
                steps.append(Step(name, "skipped", f"{_ms(expected)} expected, {_ms(left)} left"))
                continue
            answer = await self._ask(name, query, None if last else max(left, 0.0), steps)
            if answer is not None:
                return answer, steps
        raise AssertionError("the last model answers or raises")

    async def _ask(
        self, name: str, query: Recommend, timeout: float | None, steps: list[Step]
    ) -> Answer | None:
        began = time.perf_counter()
        latency = self._latency[name]
        try:
            future = asyncio.wrap_future(self._engine.submit(name, query))
            answer: Answer = await asyncio.wait_for(future, timeout)
        except TimeoutError:
            now = time.perf_counter()
            latency.record(now - began, now)
            steps.append(Step(name, "late", f"no answer within {_ms(now - began)}"))
            return None
        except SeqloomError as error:
            if timeout is None:
                raise
            steps.append(Step(name, "failed", type(error).__name__))
            return None
        now = time.perf_counter()
        latency.record(now - began, now)
        steps.append(Step(name, "answered", f"in {_ms(now - began)}"))
        return answer


def _ms(seconds: float) -> str:
    return f"{max(seconds, 0.0) * 1000:.0f} ms"
