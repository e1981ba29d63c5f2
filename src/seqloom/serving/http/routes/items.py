"""Endpoints of the live catalogue: add, update, remove and find items."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from seqloom.serving.engine.model import ServedModel
from seqloom.serving.http.authorization import RequireScope
from seqloom.serving.http.context import Context, Ctx, reply
from seqloom.serving.http.encoding import StrictRoute
from seqloom.serving.http.problems import ProblemError
from seqloom.serving.http.replies import ItemReply, ItemsReply
from seqloom.serving.http.requests import Identifier, ItemRequest, Text
from seqloom.serving.http.validation import check_item

router = APIRouter(prefix="/v1", tags=["items"], route_class=StrictRoute)
_READ, _WRITE = [Depends(RequireScope("read"))], [Depends(RequireScope("write"))]
_MOST_FOUND = 50


@router.get("/items", response_model=ItemsReply, dependencies=_READ)
async def find_items(
    context: Ctx,
    query: Annotated[Text, Query(max_length=200, description="Words, or an id.")] = "",
    limit: Annotated[int, Query(ge=1, le=_MOST_FOUND)] = 20,
    model: str | None = None,
    details: bool = False,
) -> Response:
    """Finds items by the beginnings of words of their title, brand or category, in any order, or by id.

    Accents and case do not matter, and a word that nothing begins with is corrected by one or two letters.
    Better matches come first, then popular items.
    """
    served = context.engine.model(model)
    found = await asyncio.to_thread(context.titles.find, served, query, limit)
    if details:
        found = [{**each, **context.description(served, each["item_id"])} for each in found]
    return reply({"items": found})


@router.get("/items/{item_id:path}", response_model=ItemReply, dependencies=_READ)
async def get_item(context: Ctx, item_id: Identifier) -> Response:
    """Returns an item's text and the models that can recommend it."""
    if not _is_known(context, item_id):
        raise _unknown()
    return reply(_item(context, item_id))


@router.put("/items/{item_id:path}", response_model=ItemReply, dependencies=_WRITE)
async def put_item(body: ItemRequest, context: Ctx, item_id: Identifier) -> Response:
    """Adds or updates an item. It can be recommended from the time of the answer.

    The text is embedded with the encoder of the training. The reply names models that cannot take new
    items.
    """
    check_item(body, context.config.limits)
    await context.storage.write(
        "writing the catalogue", context.engine.live.put, item_id, body.attributes
    )
    read = {name for model in context.engine.models.values() for name in context.columns(model)}
    unused = sorted(set(body.attributes) - read)
    return reply({**_item(context, item_id), "unused": unused})


@router.delete("/items/{item_id:path}", response_model=ItemReply, dependencies=_WRITE)
async def delete_item(context: Ctx, item_id: Identifier) -> Response:
    """Removes an item from recommendation in every model. Histories may still hold it."""
    if not _is_known(context, item_id):
        raise _unknown()
    attributes = {k: v for k, v in _attributes(context, item_id).items() if v is not None}
    await context.storage.write(
        "writing the catalogue", context.engine.live.remove, item_id, attributes
    )
    return reply(_item(context, item_id))


def _is_known(context: Context, item_id: str) -> bool:
    models = context.engine.models.values()
    return item_id in context.engine.live.items or any(
        model.snapshot.number(item_id) for model in models
    )


def _item(context: Context, item_id: str) -> dict[str, Any]:
    models = []
    for model in context.engine.models.values():
        recommends, reason = _availability(context, model, item_id)
        models.append({"model": model.name, "recommends": recommends, "reason": reason})
    return {"item_id": item_id, "attributes": _attributes(context, item_id), "models": models}


def _availability(context: Context, model: ServedModel, item_id: str) -> tuple[bool, str | None]:
    """Returns whether a model can recommend an item, and why not."""
    if model.snapshot.offers(item_id):
        heeded = item_id not in model.run.item_numbers or model.run.system.redescribes_items
        live = context.engine.live.items.get(item_id)
        if live is not None and not (model.grows and heeded):
            why = model.no_new_items or "the model keeps the vectors that it learnt for the item"
            return True, f"as it was trained: the new text counts for nothing ({why})"
        return True, None
    if item_id in model.refused:
        return False, model.refused[item_id]
    if model.snapshot.number(item_id):
        return False, "it was taken out of the catalogue"
    return False, model.no_new_items or "it was taken out of the catalogue"


def _attributes(context: Context, item_id: str) -> dict[str, str | None]:
    live = context.engine.live.items.get(item_id)
    if live is not None and live.attributes:
        return dict(live.attributes)
    for model in context.engine.models.values():
        number = model.run.item_numbers.get(item_id)
        if number:
            row = model.run.items.slice(number - 1, 1).to_pylist()[0]
            return {name: row[name] for name in context.columns(model)}
    return {}


def _unknown() -> ProblemError:
    return ProblemError(404, "unknown-item", "No such item", "This item is in no catalogue.")
