"""Likelihoods of titles by a local model, against the plain forward pass."""

from __future__ import annotations

import pytest
import torch

from seqloom.core.errors import LanguageModelError
from seqloom.llm.budget import Budget
from seqloom.llm.loading import load_causal_lm
from seqloom.llm.reranking.judges import AnswerCache
from seqloom.llm.reranking.likelihood import LikelihoodJudge
from seqloom.llm.reranking.options import RerankOptions
from seqloom.llm.reranking.prompts import history_prompt
from seqloom.llm.reranking.reranker import Reranker
from support.language_models import shared_tiny_llama

HISTORY = ["a user", "is a task"]
TITLES = ["write a task", "user", "instruction that describes a user", "below"]
PLANTED = "write instruction below that is a task user describes an instruction"


def build(cache: int = 100) -> LikelihoodJudge:
    return LikelihoodJudge(str(shared_tiny_llama()), AnswerCache(cache), device="cpu")


def plain(prompt: str, title: str) -> float:
    model, tokenizer = load_causal_lm(shared_tiny_llama())
    start = tokenizer(prompt)["input_ids"]
    tokens = tokenizer(f" {title}", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logs = model(torch.tensor([start + tokens])).logits.double().log_softmax(-1)[0]
    return sum(float(logs[len(start) - 1 + at, token]) for at, token in enumerate(tokens))


def test_scores_are_the_difference_of_two_plain_likelihoods() -> None:
    scores = build().scores(HISTORY, TITLES, Budget(60, 10_000))
    for title, score in zip(TITLES, scores, strict=True):
        expected = plain(history_prompt(HISTORY), title) - plain(history_prompt(()), title)
        assert score == pytest.approx(expected, abs=1e-3)


def test_a_planted_title_changes_no_other_score() -> None:
    first = build().scores(HISTORY, TITLES, Budget(60, 10_000))
    planted = build().scores(HISTORY, [PLANTED, *TITLES[1:]], Budget(60, 10_000))
    assert planted[1:] == pytest.approx(first[1:], abs=1e-4)


def test_likelihoods_are_kept_and_tokens_are_counted() -> None:
    judge, budget = build(), Budget(60, 10_000)
    first = judge.scores(HISTORY, TITLES, budget)
    assert budget.usage.tokens > 0
    again = Budget(60, 1)
    assert judge.scores(HISTORY, TITLES, again) == first
    assert (again.usage.tokens, again.usage.cached) == (0, 8)


def test_budgets_hold() -> None:
    with pytest.raises(LanguageModelError, match="tokens"):
        build().scores(HISTORY, TITLES, Budget(60, 10))
    with pytest.raises(LanguageModelError, match="0 s"):
        build().scores(HISTORY, TITLES, Budget(0, 10_000))


def test_the_reranker_uses_it() -> None:
    options = RerankOptions(model=str(shared_tiny_llama()))
    scores = build().scores(HISTORY, TITLES, Budget(60, 10_000))
    result = Reranker(options, device="cpu").rerank(HISTORY, TITLES, [4.0, 3.0, 2.0, 1.0])
    assert result.applied
    assert result.order == sorted(range(4), key=lambda place: -scores[place])
