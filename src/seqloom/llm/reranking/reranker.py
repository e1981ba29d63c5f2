"""Reranks a list within a budget, or leaves it as it is and says why."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from seqloom.core.errors import ConfigError, SeqloomError
from seqloom.core.progress import SILENT, Progress
from seqloom.llm.budget import Budget, BudgetError, Usage
from seqloom.llm.chat import ChatModel
from seqloom.llm.reranking.judges import AnswerCache, Judge, ListJudge, PointJudge
from seqloom.llm.reranking.options import RerankOptions
from seqloom.llm.reranking.prompts import clean_title


@dataclass(frozen=True)
class Reranked:
    """A new order of a list."""

    order: list[int]
    """The places of the given list, best first: a permutation of them, whatever the model answers."""
    scores: list[float]
    """The new score of each place of the given list; only those of reranked places are comparable."""
    applied: bool
    """Whether the language model took part."""
    reason: str
    """Why it did not; empty where it did. Names no host and no folder."""
    detail: str
    """The reason as the model's own error states it."""
    seconds: float
    usage: Usage


class Reranker:
    """Reranks by the language model of the options.

    Raises:
        ConfigError: the options name no model, or no endpoint is set.
    """

    def __init__(
        self,
        options: RerankOptions,
        *,
        device: str = "auto",
        transport: httpx.BaseTransport | None = None,
        progress: Progress = SILENT,
    ) -> None:
        if options.model is None:
            raise ConfigError("name the language model that reranks: openai:MODEL or a local one")
        self.options = options
        self._judge = _build_judge(options, device, transport, progress)

    @property
    def model(self) -> str:
        """The language model's name."""
        return self.options.model or ""

    def rerank(
        self,
        history: Sequence[str | None],
        titles: Sequence[str | None],
        scores: Sequence[float],
        *,
        seconds: float | None = None,
        budget: Budget | None = None,
    ) -> Reranked:
        """Reranks the first candidates of a list. Never raises for the model's sake.

        Args:
            history: titles of the history, oldest first.
            titles: titles of the list, best first.
            scores: scores of the list.
            seconds: time budget, if it is less than that of the options.
            budget: the budget of the request, if it began before.
        """
        budget = budget or self.options.new_budget(seconds)
        count = min(len(titles), self.options.candidates)
        places = list(range(len(titles)))
        if not history or count < 2:
            reason = "there is no history" if not history else "there is nothing to reorder"
            return _left(places, scores, reason, reason, budget)
        read = [clean_title(title) for title in history[-self.options.history :]]
        try:
            judged = self._judge.scores(read, [clean_title(t) for t in titles[:count]], budget)
            budget.check_time()
        except SeqloomError as error:
            known = isinstance(error, BudgetError)
            reason = str(error) if known else "the language model failed"
            return _left(places, scores, reason, str(error), budget)
        weight = self.options.weight
        own = _standardise(scores[:count])
        mixed = [
            (1 - weight) * a + weight * b for a, b in zip(own, _standardise(judged), strict=True)
        ]
        order = sorted(range(count), key=lambda place: -mixed[place])
        return Reranked(
            [*order, *places[count:]],
            [*mixed, *scores[count:]],
            True,
            "",
            "",
            budget.seconds,
            budget.usage,
        )


def _left(
    places: list[int], scores: Sequence[float], reason: str, detail: str, budget: Budget
) -> Reranked:
    """The list as it was."""
    return Reranked(places, list(scores), False, reason, detail, budget.seconds, budget.usage)


def _build_judge(
    options: RerankOptions,
    device: str,
    transport: httpx.BaseTransport | None,
    progress: Progress,
) -> Judge:
    cache = AnswerCache(options.cache)
    kind, _, name = (options.model or "").partition(":")
    if kind != "openai":
        from seqloom.llm.reranking.likelihood import LikelihoodJudge

        return LikelihoodJudge(options.model or "", cache, device=device, progress=progress)
    chat = ChatModel(name, transport=transport)
    if options.method == "list":
        return ListJudge(chat, options.concurrency, cache, options.passes)
    return PointJudge(chat, options.concurrency, cache)


def _standardise(values: Sequence[float]) -> list[float]:
    """Scales to mean 0 and standard deviation 1; all 0 where they are equal."""
    mean, deviation = statistics.fmean(values), statistics.pstdev(values)
    return [(value - mean) / deviation if deviation else 0.0 for value in values]
