"""Endpoints that compare models without storing anything: what-if lists, new items, example users."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from seqloom.core.errors import SeqloomError
from seqloom.serving.engine.examples import ExampleUser, choose_examples, sample_users
from seqloom.serving.engine.previews import Preview, preview
from seqloom.serving.engine.queries import Answer, Recommend
from seqloom.serving.engine.scheduler import OverloadedError
from seqloom.serving.http.authorization import RequireScope
from seqloom.serving.http.context import Context, Ctx, reply, unique
from seqloom.serving.http.encoding import StrictRoute
from seqloom.serving.http.explorer_replies import CompareReply, ExamplesReply, PreviewReply
from seqloom.serving.http.problems import problem_of
from seqloom.serving.http.requests import CompareRequest, PreviewRequest
from seqloom.serving.http.validation import check_compare, check_preview
from seqloom.serving.store.base import UNKNOWN_TIME, Event

router = APIRouter(
    prefix="/v1",
    tags=["explore"],
    dependencies=[Depends(RequireScope("read"))],
    route_class=StrictRoute,
)
_SHOWN = 2
"""Models that are compared where a request names none."""
_SAMPLE = 500
_MOST_PREVIEWS = 8
"""Previews that wait for one another; a further one is refused with 503."""


@router.post("/compare", response_model=CompareReply)
async def compare(body: CompareRequest, request: Request, context: Ctx) -> Response:
    """Returns the lists of several models for one history, as it is or as it would be.

    `tried` items are put behind the history and `hide_last` events are taken from its end; nothing is
    stored. `ranks` tells where each model has the items of the other lists. A model that fails has a problem
    document in its place.
    """
    check_compare(body, context.config.limits)
    names = _names(context, body.models)
    context.authorizer.charge(request.state.token, 2 * len(names))
    events = await _events(context, body.user_id)
    whole = [event.item_id for event in events] if body.history is None else body.history
    shown = len(whole) - min(body.hide_last, len(whole))
    query = Recommend(
        history=(*whole[:shown], *body.tried)[-context.config.engine.history_limit :],
        k=body.k,
        about=body.about,
        about_weight=body.about_weight,
    )
    answers = await _ask(context, names, query)
    following = whole[shown] if shown < len(whole) else None
    listed = [[item.item_id for item in each.items] for each in answers if isinstance(each, Answer)]
    hidden = [] if following is None else [following]
    wanted = unique([*chain.from_iterable(listed), *hidden, *body.rank_of])
    ranked = await _ask(context, names, replace(query, k=1, rank_of=tuple(wanted)))
    lists = [
        _list(context, name, answer, ranks, request.state.request_id)
        for name, answer, ranks in zip(names, answers, ranked, strict=True)
    ]
    document: dict[str, Any] = {
        "models": lists,
        "shared": len(set.intersection(*map(set, listed))) if listed else 0,
    }
    if following is not None:
        event = events[shown] if body.history is None else None
        document["next"] = await _next(context, body, following, event, events, lists)
    return reply(document)


@router.get("/examples", response_model=ExamplesReply)
async def examples(context: Ctx) -> Response:
    """Returns users whose histories can be read and on whom the first two models partly agree.

    They are chosen once; users that were erased since are left out.
    """
    users = await _examples(context)
    return reply(
        {
            "users": [
                {"user_id": e.user_id, "events": e.events, "days": e.days, "shared": e.shared}
                for e in users
            ]
        }
    )


@router.post("/preview", response_model=PreviewReply)
async def preview_item(body: PreviewRequest, request: Request, context: Ctx) -> Response:
    """Ranks an item that does not exist, by its texts, without adding it to any catalogue.

    The reply states its rank for the user or history, the users of a sample that it would reach, and the
    items that each model takes for most alike. A model that cannot says why.
    """
    check_preview(body, context.config.limits)
    names = _names(context, body.models)
    context.authorizer.charge(request.state.token, 1 + len(names))
    trials = context.trials
    if trials.previews >= _MOST_PREVIEWS:
        raise OverloadedError("too many previews are waiting; try again soon")
    trials.previews += 1
    try:
        async with trials.previewing:  # each copies item tables and may load a text encoder
            results = await asyncio.to_thread(_preview, context, body, names)
    finally:
        trials.previews -= 1
    return reply({"models": results})


async def choose_at_start(context: Context) -> None:
    """Chooses the example users before someone asks for them. Failures are left to the first request."""
    try:
        await _examples(context)
    except SeqloomError:
        return


async def _examples(context: Context) -> list[ExampleUser]:
    trials = context.trials
    async with trials.choosing:
        if not trials.examples:
            trials.examples = await context.storage.read(
                "choosing examples", choose_examples, context.engine, context.store
            )
        names = [each.user_id for each in trials.examples]
        kept = await context.storage.read("reading histories", context.store.histories, names, 1)
        trials.examples = [each for each in trials.examples if each.user_id in kept]
        return trials.examples


def _names(context: Context, models: list[str] | None) -> list[str]:
    names = list(context.engine.models)[:_SHOWN] if models is None else unique(models)
    return [context.engine.model(name).name for name in names]


async def _events(context: Context, user_id: str | None) -> list[Event]:
    if user_id is None:
        return []
    return await context.storage.read("exporting", context.store.export, user_id)


async def _ask(
    context: Context, names: Sequence[str], query: Recommend
) -> list[Answer | BaseException]:
    async def one(name: str) -> Answer:
        answer: Answer = await asyncio.wrap_future(context.engine.submit(name, query))
        return answer

    return await asyncio.gather(*map(one, names), return_exceptions=True)


def _list(
    context: Context,
    name: str,
    answer: Answer | BaseException,
    ranks: Answer | BaseException,
    request_id: str,
) -> dict[str, Any]:
    if isinstance(answer, BaseException):
        return {"model": name, "problem": problem_of(answer, request_id).document(request_id)}
    return {
        "model": name,
        "version": answer.version,
        "items": context.entries(answer.served, answer.items, True),
        "history_length": answer.history_length,
        "fallback": answer.fallback,
        "unknown": answer.unknown,
        "about": None if answer.about is None else answer.about.model_dump(),
        "ranks": ranks.ranks if isinstance(ranks, Answer) else {},
        "rankable": ranks.rankable if isinstance(ranks, Answer) else None,
    }


async def _next(
    context: Context,
    body: CompareRequest,
    item_id: str,
    event: Event | None,
    events: Sequence[Event],
    lists: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """The event that came next, its ranks, and whether the models were trained on it."""
    names = [each["model"] for each in lists]
    parts: dict[str, str | None] = dict.fromkeys(names)
    if event is not None and body.user_id is not None:
        place = next(at for at, each in enumerate(events) if each is event)
        for name in names:
            model = context.engine.model(name)
            found = await asyncio.to_thread(context.parts.of, model, body.user_id, events)
            parts[name] = found[place]
    timed = event is not None and event.timestamp != UNKNOWN_TIME
    return {
        "item_id": item_id,
        **context.description(context.engine.model(names[0]), item_id),
        "timestamp": event.timestamp if event is not None and timed else None,
        "ranks": {e["model"]: e["ranks"][item_id] for e in lists if item_id in e.get("ranks", {})},
        "parts": parts,
    }


def _preview(context: Context, body: PreviewRequest, names: Sequence[str]) -> list[dict[str, Any]]:
    limit = context.config.engine.history_limit
    if body.history is None:
        user = body.user_id or ""
        history: Sequence[str] = context.store.histories([user], limit).get(user, ())
    else:
        history = body.history
    sampled = sample_users(context.engine.model(), context.store, _SAMPLE)
    others = list(context.store.histories(sampled, limit).values())
    documents = []
    for name in names:
        model = context.engine.model(name)
        try:
            seen = preview(model, body.attributes, history, others)
        except SeqloomError as error:
            seen = Preview(name, problem_of(error).detail)
        documents.append(
            {
                "model": name,
                "reason": seen.reason,
                "rank": seen.rank,
                "rankable": seen.rankable,
                "reached": seen.reached,
                "asked": seen.asked,
                "nearest": context.entries(model, seen.nearest, True),
            }
        )
    return documents
