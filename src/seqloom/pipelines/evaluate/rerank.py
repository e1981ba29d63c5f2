"""`evaluate --rerank`: whether reranking by a language model pays, on a sample of users."""

from __future__ import annotations

import statistics
from pathlib import Path

import torch
from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.errors import ConfigError
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.core.random import generator
from seqloom.data.store import Dataset, Part
from seqloom.evaluation.metrics import MISSED, per_user
from seqloom.evaluation.significance import paired_test
from seqloom.inference.ranker import Lists
from seqloom.llm.reranking.options import RerankOptions
from seqloom.llm.reranking.reranker import Reranked, Reranker
from seqloom.pipelines.evaluate.evaluate import trained_scorer
from seqloom.runs.folder import Run, load_run

SAMPLE = 200
METRICS = ("ndcg@10", "hr@10", "mrr")


class RerankedMetric(Config):
    """One metric before and after reranking, over the same users."""

    metric: str
    before: float
    after: float
    difference: float
    """After minus before."""
    low: float
    """Lower bound of its 95 % confidence interval."""
    high: float
    p: float
    """Two-sided, paired permutation over users."""


class RerankEvaluation(Config):
    """The result of `evaluate_rerank`."""

    run: str
    model: str
    options: RerankOptions
    users: int
    """Sampled users; all have a history."""
    in_reach: float
    """Share of users whose target is among the candidates: no reranking can help the others."""
    metrics: list[RerankedMetric]
    reranked: int
    """Users whose list the language model ordered."""
    left: dict[str, int]
    """Users whose list stayed as it was, by reason."""
    tokens_in: int
    tokens_out: int
    calls: int
    cached: int
    money: float
    latency_ms: float
    """Median of the time that reranking takes."""
    latency_p95_ms: float
    verdict: str
    """Whether it pays, in a sentence."""


@public_function()
def evaluate_rerank(
    run: Run | str | Path,
    options: RerankOptions,
    *,
    on: Part = "test",
    sample: int | None = None,
    seed: int = 0,
    mask_seen: bool = True,
    dataset: Dataset | str | Path | None = None,
    device: str = "auto",
    progress: Progress = AUTO,
) -> RerankEvaluation:
    """Reranks the lists of a sample of users and compares the ranks of their held-out items.

    A target outside the candidates keeps its rank, or counts as missed beyond the list. Writes nothing.

    Args:
        sample: number of users, 200 by default; all if there are fewer. The same seed draws the same ones.

    Raises:
        ConfigError: no model is named, no user of the part has a history, or the catalogue has no titles.
        ArtefactError: `run` is not a run, or its data set is missing or another one.
    """
    run = run if isinstance(run, Run) else load_run(run, device=device)
    if not any(run.titles):
        raise ConfigError("the catalogue has no titles, so a language model has nothing to read")
    reranker = Reranker(options, device=device, progress=progress)
    held_out = (dataset if isinstance(dataset, Dataset) else run.dataset(dataset)).held_out(on)
    able = torch.nonzero(held_out.histories.lengths > 0).flatten()
    if len(able) < 2:
        raise ConfigError("fewer than two users of this part have a history")
    drawn = torch.randperm(len(able), generator=generator(seed, "rerank sample"))[
        : sample or SAMPLE
    ]
    rows = able[drawn]
    histories, targets = held_out.histories.select(rows), held_out.targets[rows]
    ranker = run.ranker(trained_scorer(run))
    length = max(options.candidates, 10)
    results: list[Reranked] = []
    before, after = [], []
    with progress.task("rerank", len(rows), "users") as task:
        for number in range(len(rows)):
            row = torch.tensor([number])
            history = histories.select(row)
            lists = ranker.best(history, length, hidden=history if mask_seen else None)
            result, places = _rerank_one(run, reranker, history.flat()[1].tolist(), lists)
            hits = lists.items[0] == int(targets[number])
            before.append(_rank(hits))
            after.append(_rank(hits[places]))
            results.append(result)
            task.advance()
    return _summarise(run, options, results, torch.tensor(before), torch.tensor(after))


def _rerank_one(
    run: Run, reranker: Reranker, history: list[int], lists: Lists
) -> tuple[Reranked, Tensor]:
    """Reranks one list; also returns the places in their new order."""
    numbers = [number for number in lists.items[0].tolist() if number]
    result = reranker.rerank(
        [run.titles[number - 1] for number in history],
        [run.titles[number - 1] for number in numbers],
        lists.scores[0, : len(numbers)].tolist(),
    )
    return result, torch.tensor(result.order, dtype=torch.int64)


def _rank(hits: Tensor) -> int:
    """The place of the target in a list, from 1; `MISSED` where it is not there."""
    at = torch.nonzero(hits).flatten().tolist()
    return at[0] + 1 if at else MISSED


def _summarise(
    run: Run, options: RerankOptions, results: list[Reranked], before: Tensor, after: Tensor
) -> RerankEvaluation:
    metrics = []
    for name in METRICS:
        test = paired_test(per_user(name, before), per_user(name, after))
        metrics.append(
            RerankedMetric(
                metric=name,
                before=test.first,
                after=test.second,
                difference=test.difference,
                low=test.low,
                high=test.high,
                p=test.p_value,
            )
        )
    reasons = [result.detail for result in results if not result.applied]
    seconds = sorted(result.seconds for result in results)
    usages = [result.usage for result in results]
    money = sum(usage.money for usage in usages)
    tokens = sum(usage.tokens for usage in usages)
    latency = 1000 * statistics.median(seconds)
    return RerankEvaluation(
        run=str(run.path),
        model=options.model or "",
        options=options,
        users=len(results),
        in_reach=float((before <= options.candidates).double().mean()),
        metrics=metrics,
        reranked=len(results) - len(reasons),
        left={reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
        tokens_in=sum(usage.tokens_in for usage in usages),
        tokens_out=sum(usage.tokens_out for usage in usages),
        calls=sum(usage.calls for usage in usages),
        cached=sum(usage.cached for usage in usages),
        money=money,
        latency_ms=latency,
        latency_p95_ms=1000 * seconds[int(0.95 * (len(seconds) - 1))],
        verdict=_verdict(metrics[0], tokens / len(results), latency, money / len(results)),
    )


def _verdict(metric: RerankedMetric, tokens: float, latency_ms: float, money: float) -> str:
    """Whether reranking pays on NDCG@10, and what a request costs."""
    price = f", {money:.5f} in money" if money else ""
    cost = f"a request costs {tokens:,.0f} tokens and {latency_ms:,.0f} ms{price}"
    change = f"NDCG@10 {metric.before:.4f} before, {metric.after:.4f} after, p = {metric.p:.3f}"
    if metric.p < 0.05:
        verdict = "Reranking pays" if metric.difference > 0 else "Reranking does not pay"
    else:
        verdict = "It is not shown that reranking pays"
    return f"{verdict}: {change}; {cost}."
