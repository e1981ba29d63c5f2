"""Endpoints of events and users: append, export, erase, find."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import StringConstraints

from seqloom.serving.http.authorization import RequireScope, caller
from seqloom.serving.http.context import Ctx, reply, unique
from seqloom.serving.http.encoding import StrictRoute
from seqloom.serving.http.event_times import event_times, is_fast
from seqloom.serving.http.problems import ProblemError
from seqloom.serving.http.replies import EraseReply, EventsReply, UserReply, UsersReply
from seqloom.serving.http.requests import EventsRequest, Identifier, Text
from seqloom.serving.http.validation import check_events
from seqloom.serving.store.base import UNKNOWN_TIME, Event, Receipt

router = APIRouter(prefix="/v1", tags=["users"], route_class=StrictRoute)
_READ, _WRITE = [Depends(RequireScope("read"))], [Depends(RequireScope("write"))]
_MOST_FOUND = 20
Key = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\x20-\x7e]+$")]


@router.post("/events", response_model=EventsReply, dependencies=_WRITE)
async def post_events(
    body: EventsRequest,
    request: Request,
    context: Ctx,
    idempotency_key: Annotated[
        Key | None,
        Header(description="Makes a repeated post safe: a key is executed one time only."),
    ] = None,
) -> Response:
    """Stores interactions durably before it answers; the next list reflects them.

    An event with the same user, item and time as a stored one is `repeated` and not stored again. Events of
    items that no model knows are stored too, and the reply names them. A key that was used within a day
    with the same body returns the first answer, with `Idempotency-Replayed: true`.
    """
    check_events(body, context.config.limits)
    if is_fast(body.events):
        times = event_times(body.events)
    else:
        times = await asyncio.to_thread(event_times, body.events)
    events = [
        Event(each.user_id, each.item_id, at) for each, at in zip(body.events, times, strict=True)
    ]
    snapshots = [model.snapshot for model in context.engine.models.values()]
    unknown = [
        item
        for item in unique([event.item_id for event in events])
        if not any(snapshot.number(item) for snapshot in snapshots)
    ]
    answer = {"accepted": len(events), "unknown_items": unknown}
    receipt = None
    if idempotency_key is not None:
        fingerprint = hashlib.sha256(await request.body()).hexdigest()
        receipt = Receipt(f"{caller(request)}:{idempotency_key}", fingerprint, json.dumps(answer))
    done = await context.storage.write("writing events", context.store.append, events, receipt)
    if done.earlier is None:
        context.metrics.events(done.new)
        return reply(_with_repeated(answer, done.new))
    if receipt is not None and done.earlier.fingerprint != receipt.fingerprint:
        raise ProblemError(
            422, "idempotency-key", "The key belongs to another request",
            "An Idempotency-Key identifies one body; use a new key for another one.",
        )  # fmt: skip
    first = _with_repeated(json.loads(done.earlier.reply), done.new)
    return reply(first, {"Idempotency-Replayed": "true"})


def _with_repeated(answer: dict[str, Any], new: int) -> dict[str, Any]:
    repeated = answer["accepted"] - new
    return {**answer, "repeated": repeated} if repeated else answer


@router.get("/users", response_model=UsersReply, dependencies=_READ)
async def find_users(
    context: Ctx,
    prefix: Annotated[Text, Query(max_length=512)] = "",
    forgiving: Annotated[
        bool, Query(description="Also try it without spaces around it, in lower and upper case.")
    ] = False,
) -> Response:
    """Returns users whose ids begin with `prefix`, in order, at most twenty."""
    bare = prefix.strip()
    spellings = (
        unique([prefix, bare, bare.lower(), bare.upper(), bare.capitalize()])
        if forgiving
        else [prefix]
    )
    users: list[str] = []
    for each in spellings:
        if len(users) < _MOST_FOUND:
            users += await context.storage.read(
                "finding users", context.store.find_users, each, _MOST_FOUND
            )
    return reply({"users": unique(users)[:_MOST_FOUND]})


@router.get("/users/{user_id:path}", response_model=UserReply, dependencies=_READ)
async def export_user(
    context: Ctx,
    user_id: Identifier,
    details: Annotated[
        bool, Query(description="Add the texts of the items and the part of each event.")
    ] = False,
    model: str | None = None,
) -> Response:
    """Returns all stored events of a user, oldest first. `model` is the one whose training parts refer to."""
    served = context.engine.model(model)
    events = await context.storage.read("exporting", context.store.export, user_id)
    if not events:
        raise ProblemError(
            404, "unknown-user", "No such user", "The store has no events of this user."
        )
    history: list[dict[str, Any]] = [
        {
            "item_id": event.item_id,
            "timestamp": None if event.timestamp == UNKNOWN_TIME else event.timestamp,
            "title": context.titles.title(served, event.item_id),
        }
        for event in events
    ]
    if details:
        parts = await asyncio.to_thread(context.parts.of, served, user_id, events)
        for row, part in zip(history, parts, strict=True):
            row.update(part=part, **context.description(served, row["item_id"]))
    return reply({"user_id": user_id, "history": history})


@router.delete("/users/{user_id:path}", response_model=EraseReply, dependencies=_WRITE)
async def erase_user(context: Ctx, user_id: Identifier) -> Response:
    """Erases a user. Repeating it is no error, and no import of a data set restores the old events.

    The weights of models keep the effect of the user's events until they are trained again without them.
    """
    erased = await context.storage.write("erasing", context.store.erase, user_id)
    return reply({"user_id": user_id, "erased": erased})
