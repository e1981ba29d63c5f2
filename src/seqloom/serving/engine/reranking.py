"""The last stage of an answer: a language model reorders the list, within what is left of the time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from seqloom.llm.reranking.options import RerankOptions
from seqloom.llm.reranking.reranker import Reranked, Reranker
from seqloom.serving.engine.cascade import RecentLatency, Step
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.engine.queries import Answer, Recommend

_LOG = logging.getLogger("seqloom.serving")
RERANK = "rerank"
"""The stage's name in the steps of an answer."""
_MOST_WAITING = 64
"""Requests that are reranked or wait for it; further ones keep their list."""

_LATE = 2.0
"""How often the time waited an answer is assumed to take that did not come."""

Titles = Callable[[ServedModel, str], str | None]


@dataclass(frozen=True)
class RerankedAnswer:
    """An answer after the stage."""

    answer: Answer
    step: Step
    result: Reranked | None
    """None where the model was not asked."""


class RerankStage:
    """Reranks answers; the list of the models before stays where the language model does not answer in time.

    Raises:
        ConfigError: what `Reranker` raises.
    """

    def __init__(self, options: RerankOptions, titles: Titles, *, device: str = "auto") -> None:
        self.options = options
        self._reranker = Reranker(options, device=device)
        self._titles = titles
        self._latency = RecentLatency()
        self._waiting = 0
        self._threads = ThreadPoolExecutor(_MOST_WAITING, thread_name_prefix="seqloom-rerank-stage")

    def widen(self, query: Recommend) -> Recommend:
        """Returns the query whose answer holds all candidates and the history that the model reads."""
        k = max(query.k, self.options.candidates)
        return replace(query, k=k, keep_history=self.options.history)

    async def rerank(self, answer: Answer, k: int, seconds: float | None) -> RerankedAnswer:
        """Reranks an answer to a widened query and cuts it to `k` items.

        Args:
            seconds: what is left of the latency budget; None for that of the options alone.
        """
        loop = asyncio.get_running_loop()
        budget = self.options.new_budget(seconds)
        expected = self._latency.expect(loop.time())
        if expected > budget.seconds_left or self._waiting >= _MOST_WAITING:
            full = self._waiting >= _MOST_WAITING
            left = f"{max(budget.seconds_left, 0) * 1000:.0f} ms left"
            reason = (
                "too many requests wait" if full else f"{expected * 1000:.0f} ms expected, {left}"
            )
            return RerankedAnswer(_cut(answer, k), Step(RERANK, "skipped", reason), None)
        history = [self._titles(answer.served, item) for item in answer.history]
        titles = [self._titles(answer.served, item.item_id) for item in answer.items]
        scores = [item.score for item in answer.items]
        self._waiting += 1
        try:
            work = loop.run_in_executor(
                self._threads,
                lambda: self._reranker.rerank(history, titles, scores, budget=budget),
            )
            result = await asyncio.wait_for(work, max(budget.seconds_left, 0.0))
        except TimeoutError:
            self._latency.record(_LATE * budget.seconds, loop.time())
            reason = f"no answer within {budget.seconds * 1000:.0f} ms"
            return RerankedAnswer(_cut(answer, k), Step(RERANK, "late", reason), None)
        finally:
            self._waiting -= 1
        if not result.applied:
            if result.detail != result.reason:  # it may name hosts and folders
                _LOG.warning("reranking failed", extra={"fields": {"error": result.detail}})
            late = budget.seconds_left <= 0
            if late:
                self._latency.record(_LATE * budget.seconds, loop.time())
            outcome = "late" if late else "failed" if answer.history else "skipped"
            return RerankedAnswer(_cut(answer, k), Step(RERANK, outcome, result.reason), result)
        self._latency.record(result.seconds, loop.time())
        step = Step(RERANK, "answered", f"in {result.seconds * 1000:.0f} ms")
        return RerankedAnswer(_cut(_reordered(answer, result), k), step, result)

    def close(self) -> None:
        """Stops the threads; requests under way are not awaited."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _reordered(answer: Answer, result: Reranked) -> Answer:
    items = [
        replace(answer.items[place], score=result.scores[place])
        for place in _within(result.order, len(answer.items))
    ]
    return replace(answer, items=items)


def _within(order: Sequence[int], count: int) -> Sequence[int]:
    """Checks that an order is one of the list's own places: nothing else can come out."""
    assert sorted(order) == list(range(count))
    return order


def _cut(answer: Answer, k: int) -> Answer:
    return replace(answer, items=answer.items[:k])
