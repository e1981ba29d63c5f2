"""The served models: what they are, how well they rank, and loading them anew."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, Response

from seqloom.core.errors import SeqloomError
from seqloom.core.files import read_json
from seqloom.serving.engine.engine import UnknownModelError
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.http.context import Context, Ctx, reply
from seqloom.serving.http.guard import Needs
from seqloom.serving.http.problems import ProblemError
from seqloom.serving.http.replies import MetricsReply, ModelsReply, ReloadReply
from seqloom.serving.http.requests import ReloadRequest

router = APIRouter(prefix="/v1", tags=["models"])
_READ, _ADMIN = [Depends(Needs("read"))], [Depends(Needs("admin"))]


@router.get("/models", response_model=ModelsReply, dependencies=_READ)
async def list_models(context: Ctx) -> Response:
    """The served models, the default one first."""
    models = [_describe(context, model) for model in context.engine.models.values()]
    cascade = context.cascade.names if context.cascade is not None else []
    return reply({"models": models, "cascade": cascade})


@router.get("/models/{model}/metrics", response_model=MetricsReply, dependencies=_READ)
async def model_metrics(context: Ctx, model: str) -> Response:
    """What training and evaluation found of a model."""
    served = context.engine.model(model)
    try:
        return reply(await asyncio.to_thread(_metrics, served))
    except SeqloomError as error:
        raise ProblemError(
            409, "damaged-run", "The files of the run cannot be read", str(error)
        ) from error


@router.post("/admin/reload", response_model=ReloadReply, dependencies=_ADMIN)
async def reload(body: ReloadRequest, context: Ctx) -> Response:
    """Load one model, or all, anew from their folders. No request fails meanwhile.

    Where a run cannot be opened, the model that is served stays. Else the other servers of the store
    are told, and load all of theirs anew.
    """
    try:
        models = await asyncio.to_thread(context.engine.reload, body.model)
    except UnknownModelError:
        raise
    except SeqloomError as error:
        raise ProblemError(409, "reload", "The run cannot be opened", str(error)) from error
    await asyncio.to_thread(context.engine.announce_reload)
    return reply({"models": [_describe(context, model) for model in models]})


def _describe(context: Context, model: ServedModel) -> dict[str, Any]:
    return {
        "model": model.name,
        "version": model.version,
        "system": model.system,
        "items": model.snapshot.scorer.num_items - len(model.snapshot.removed),
        "loaded_at": model.loaded_at,
        "search": "exact" if model.recall is None else "approximate",
        "recall": None if model.recall is None else model.recall.recall,
        "new_items": model.grows,
        "new_items_reason": model.no_new_items or None,
        "columns": context.columns(model),
    }


def _metrics(model: ServedModel) -> dict[str, Any]:
    """The run's own files. Their names are the server's, never a request's."""
    files = sorted(model.run.path.glob("metrics*.json"))
    manifest = model.run.manifest
    return {
        "model": model.name,
        "version": model.version,
        "parameters": manifest.parameters,
        "seconds_total": manifest.cost.seconds_total,
        "evaluations": [read_json(file, "evaluation") for file in files],
        "log": model.run.log,
    }
