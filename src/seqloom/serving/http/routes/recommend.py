"""Endpoints for lists: for a user or a history, for many of them, for an item; and explanations."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from seqloom.serving.engine.cascade import Step
from seqloom.serving.engine.queries import Answer, Explain, Explanation, Recommend, Similar
from seqloom.serving.engine.reranking import RerankedAnswer, RerankStage
from seqloom.serving.engine.wording import evidence_of
from seqloom.serving.http.authorization import RequireScope
from seqloom.serving.http.context import Context, Ctx, reply
from seqloom.serving.http.direct_route import DirectRoute
from seqloom.serving.http.encoding import StrictRoute
from seqloom.serving.http.problems import invalid, problem_of
from seqloom.serving.http.replies import BatchReply, ExplainReply, ListReply, SimilarReply
from seqloom.serving.http.requests import (
    BatchRequest,
    ExplainRequest,
    Identifier,
    RecommendRequest,
)
from seqloom.serving.http.validation import check_batch, check_explain, check_k, check_recommend

router = APIRouter(
    prefix="/v1",
    tags=["recommend"],
    dependencies=[Depends(RequireScope("read"))],
    route_class=StrictRoute,
)


def direct_route(context: Context) -> DirectRoute:
    """Returns the route that answers `POST /v1/recommend`; it has to stand before `router`'s."""
    return DirectRoute("/v1/recommend", RecommendRequest, recommend, RequireScope("read"), context)


# The router documents the endpoint; `direct_route` answers it.
@router.post("/recommend", response_model=ListReply)
async def recommend(request: RecommendRequest, context: Ctx) -> Response:
    """Returns the best items for a user of the store, or for a history of item ids.

    Unknown ids are named in the reply. Without a known history the reply holds popular items, and
    `fallback` is set.
    """
    check_recommend(request, context.config.limits)
    return reply(await _recommend(context, request))


@router.post("/recommend/batch", response_model=BatchReply)
async def recommend_batch(body: BatchRequest, request: Request, context: Ctx) -> Response:
    """Answers several requests. A failed one has a problem document in its place."""
    check_batch(body, context.config.limits)
    context.authorizer.charge(request.state.token, len(body.requests))
    done = await asyncio.gather(
        *(_recommend(context, each) for each in body.requests), return_exceptions=True
    )
    results = [
        problem_of(each, request.state.request_id).document(request.state.request_id)
        if isinstance(each, BaseException)
        else each
        for each in done
    ]
    return reply({"results": results})


@router.get("/similar/{item_id:path}", response_model=SimilarReply)
async def similar(
    context: Ctx,
    item_id: Identifier,
    k: Annotated[int, Query(ge=1)] = 10,
    model: str | None = None,
    details: bool = False,
) -> Response:
    """Returns the items most similar to one item by the model's measure."""
    check_k(k, context.config.limits)
    future = context.engine.submit(model, Similar(item_id, k))
    answer: Answer = await asyncio.wrap_future(future)
    return reply(
        {
            "item_id": item_id,
            "items": context.entries(answer.served, answer.items, details),
            "model": answer.model,
            "version": answer.version,
            "method": answer.method,
        }
    )


@router.post("/explain", response_model=ExplainReply)
async def explain(request: ExplainRequest, context: Ctx) -> Response:
    """Explains a recommendation by the contributions of history items and of the model's views.

    Each item of the history is left out in turn; `change` is the loss of the score.
    """
    check_explain(request, context.config.limits)
    history = None if request.history is None else tuple(request.history)
    query = Explain(request.user_id, history, request.item_id)
    future = context.engine.submit(request.model, query)
    explanation: Explanation = await asyncio.wrap_future(future)
    document = _explained(context, explanation)
    if request.words:
        evidence = evidence_of(explanation, context.titles.title)
        words = await asyncio.to_thread(context.explainer.explain, evidence)
        document["words"] = {
            "sentences": [{"text": each.text, "source": each.source} for each in words.sentences],
            "written": words.written,
            "supported": words.supported,
            "reason": words.reason,
            "tokens": words.usage.tokens,
        }
    return reply(document)


def _explained(context: Context, explanation: Explanation) -> dict[str, Any]:
    served = explanation.served
    return {
        "item_id": explanation.item_id,
        "title": context.titles.title(served, explanation.item_id),
        "score": explanation.score,
        "rank": explanation.rank,
        "list_rank": explanation.list_rank,
        "rankable": explanation.rankable,
        "history": [
            {
                "item_id": each.item_id,
                "title": context.titles.title(served, each.item_id),
                "position": each.position,
                "change": each.change,
            }
            for each in explanation.history
        ],
        "views": {
            name: {"score": part.score, "advantage": part.advantage, "share": part.share}
            for name, part in explanation.views.items()
        },
        "unknown": explanation.unknown,
        "model": served.name,
        "version": served.version,
    }


async def _recommend(context: Context, request: RecommendRequest) -> dict[str, Any]:
    query = Recommend(
        user_id=request.user_id,
        history=None if request.history is None else tuple(request.history),
        k=request.k,
        exclude=tuple(request.exclude),
        candidates=None if request.candidates is None else tuple(request.candidates),
        include_seen=request.include_seen,
        about=request.about,
        about_weight=request.about_weight,
    )
    stage = _rerank_stage(context, request)
    steps: list[Step] | None = None
    began = time.perf_counter()
    seconds: float | None = None
    asked = query if stage is None else stage.widen(query)
    if request.model is None and context.cascade is not None:
        budget = request.budget_ms or context.config.engine.budget_ms
        answer, steps = await context.cascade.recommend(asked, budget / 1000)
        seconds = budget / 1000 - (time.perf_counter() - began)
        for step in steps:
            context.metrics.step(step.model, step.outcome)
    elif request.budget_ms is not None:
        raise invalid(
            "body/budget_ms",
            "only the cascade has a latency budget, and this request does not use it",
        )
    else:
        answer = await asyncio.wrap_future(context.engine.submit(request.model, asked))
    reranked: RerankedAnswer | None = None
    if stage is not None:
        reranked = await stage.rerank(answer, request.k, seconds)
        answer = reranked.answer
        steps = None if steps is None else [*steps, reranked.step]
        context.metrics.step(reranked.step.model, reranked.step.outcome)
    if answer.fallback is not None:
        context.metrics.fallback(answer.model)
    document = {
        "items": context.entries(answer.served, answer.items, request.details),
        "model": answer.model,
        "version": answer.version,
        "history_length": answer.history_length,
        "fallback": answer.fallback,
        "unknown": answer.unknown,
    }
    if answer.about is not None:
        document["about"] = answer.about.model_dump()
    if reranked is not None:
        document["rerank"] = _describe_rerank(context, reranked)
    if steps is not None:
        document["cascade"] = [
            {"model": step.model, "outcome": step.outcome, "reason": step.reason} for step in steps
        ]
    return document


def _rerank_stage(context: Context, request: RecommendRequest) -> RerankStage | None:
    """The stage that reorders the list of a request, if one does.

    Raises:
        ProblemError: the request asks for it, and the server has none.
    """
    if request.rerank is False:
        return None
    if request.rerank is None and (request.model is not None or context.cascade is None):
        return None
    if request.rerank and context.reranking is None:
        raise invalid("body/rerank", "the server reranks by no language model")
    return context.reranking


def _describe_rerank(context: Context, reranked: RerankedAnswer) -> dict[str, Any]:
    usage = None if reranked.result is None else reranked.result.usage
    applied = reranked.step.outcome == "answered"
    return {
        "model": context.config.rerank.model,
        "applied": applied,
        "reason": "" if applied else f"{reranked.step.outcome}: {reranked.step.reason}",
        "tokens": 0 if usage is None else usage.tokens,
        "money": 0.0 if usage is None else usage.money,
        "cached": 0 if usage is None else usage.cached,
    }
