"""Judges of candidates: by an endpoint, one by one or all at once, or by a local model's likelihood."""

from __future__ import annotations

import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError
from typing import Any, Protocol

from seqloom.core.errors import LanguageModelError
from seqloom.core.files import sha256_text
from seqloom.llm.budget import Budget, BudgetError
from seqloom.llm.chat import ChatModel
from seqloom.llm.reranking.prompts import (
    LIST_SCHEMA,
    LIST_SYSTEM,
    POINT_SCHEMA,
    POINT_SYSTEM,
    list_data,
    point_data,
)

_POINT_TOKENS = 32
_LIST_TOKENS = 24
"""Tokens of an answer: by point, and for each candidate of a list."""


class Judge(Protocol):
    """Scores candidates by titles."""

    def scores(
        self, history: Sequence[str], candidates: Sequence[str], budget: Budget
    ) -> list[float]:
        """Returns a score for each candidate; larger is likelier.

        Raises:
            LanguageModelError: the model fails, gives no usable answer, or would exceed the budget.
        """


class AnswerCache:
    """Keeps the latest answers by their content."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._answers: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, budget: Budget) -> Any | None:
        """Returns a kept answer, which `budget` counts; None if there is none."""
        with self._lock:
            answer = self._answers.get(key)
            if answer is not None:
                self._answers.move_to_end(key)
        if answer is not None:
            budget.from_cache()
        return answer

    def put(self, key: str, answer: Any) -> None:
        """Keeps an answer."""
        with self._lock:
            self._answers[key] = answer
            while len(self._answers) > self._size:
                self._answers.popitem(last=False)


class _ChatJudge:
    """What both ways to ask an endpoint share: calls at a time, and the cache."""

    def __init__(self, chat: ChatModel, concurrency: int, cache: AnswerCache) -> None:
        self._chat = chat
        self._cache = cache
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="seqloom-rerank")

    def _ask_all(self, asks: Sequence[Callable[[], Any]], budget: Budget) -> list[Any]:
        """Runs calls at the same time; the first that fails cancels those that wait."""
        futures = [self._pool.submit(ask) for ask in asks]
        try:
            return [future.result(max(budget.seconds_left, 0.0)) for future in futures]
        except LateError:
            raise BudgetError("no answer in time") from None
        finally:
            for future in futures:
                future.cancel()

    def _ask(
        self, texts: tuple[str, str], schema: dict[str, Any], most_tokens: int, budget: Budget,
        read: Callable[[dict[str, Any]], Any],
    ) -> Any:  # fmt: skip
        key = sha256_text(self._chat.name, *texts)
        kept = self._cache.get(key, budget)
        if kept is None:
            kept = read(self._chat.answer(*texts, schema, most_tokens, budget))
            self._cache.put(key, kept)
        return kept


class PointJudge(_ChatJudge):
    """Asks for a score of each candidate alone: no title is read together with another candidate's."""

    def scores(
        self, history: Sequence[str], candidates: Sequence[str], budget: Budget
    ) -> list[float]:
        """See `Judge`."""

        def ask(candidate: str) -> Callable[[], Any]:
            texts = POINT_SYSTEM, point_data(history, candidate)
            return lambda: self._ask(texts, POINT_SCHEMA, _POINT_TOKENS, budget, _read_score)

        return self._ask_all([ask(candidate) for candidate in candidates], budget)


class ListJudge(_ChatJudge):
    """Asks for an order of all candidates, several times with shuffled ones.

    A candidate's score is minus its mean place. Numbers that are no candidate's are ignored, and candidates
    that an order leaves out stand behind it in the order that they had.
    """

    def __init__(self, chat: ChatModel, concurrency: int, cache: AnswerCache, passes: int) -> None:
        super().__init__(chat, concurrency, cache)
        self._passes = passes

    def scores(
        self, history: Sequence[str], candidates: Sequence[str], budget: Budget
    ) -> list[float]:
        """See `Judge`."""
        orders = [self._shuffled(candidates, number) for number in range(self._passes)]

        def ask(order: Sequence[int]) -> Callable[[], Any]:
            texts = LIST_SYSTEM, list_data(history, [candidates[place] for place in order])
            return lambda: self._ask(
                texts, LIST_SCHEMA, _LIST_TOKENS * len(order), budget, _read_ranking
            )

        totals = [0.0] * len(candidates)
        for order, ranking in zip(
            orders, self._ask_all([ask(o) for o in orders], budget), strict=True
        ):
            for place, at in enumerate(_complete(ranking, order)):
                totals[at] -= place / self._passes
        return totals

    def _shuffled(self, candidates: Sequence[str], number: int) -> list[int]:
        """The order of one pass: as given for a single one, else shuffled by the content alone."""
        order = list(range(len(candidates)))
        if self._passes > 1:
            random.Random(sha256_text(str(number), *candidates)).shuffle(order)
        return order


def _read_score(answer: dict[str, Any]) -> float:
    score = answer.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 100:
        raise LanguageModelError("the model gave a score outside 0 to 100")
    return float(score)


def _read_ranking(answer: dict[str, Any]) -> list[int]:
    ranking = answer.get("ranking")
    if not isinstance(ranking, list):
        raise LanguageModelError("the model gave no ranking")
    return [
        number for number in ranking if isinstance(number, int) and not isinstance(number, bool)
    ]


def _complete(ranking: Sequence[int], order: Sequence[int]) -> list[int]:
    """Candidates in the order of a ranking of their numbers; each once.

    Raises:
        LanguageModelError: it names none of them.
    """
    named = [order[number - 1] for number in dict.fromkeys(ranking) if 1 <= number <= len(order)]
    if not named:
        raise LanguageModelError("the model's ranking names no candidate")
    return [*named, *(place for place in sorted(order) if place not in set(named))]
