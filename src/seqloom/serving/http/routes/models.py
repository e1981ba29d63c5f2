"""Endpoints of the served models: list, metrics, reload."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, Response

from seqloom.core.errors import ArtefactError, SeqloomError
from seqloom.core.files import read_json
from seqloom.serving.engine.engine import UnknownModelError
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.http.authorization import RequireScope
from seqloom.serving.http.context import Context, Ctx, reply
from seqloom.serving.http.encoding import StrictRoute
from seqloom.serving.http.problems import ProblemError
from seqloom.serving.http.replies import MetricsReply, ModelsReply, ReloadReply
from seqloom.serving.http.requests import ReloadRequest

router = APIRouter(prefix="/v1", tags=["models"], route_class=StrictRoute)
_READ, _ADMIN = [Depends(RequireScope("read"))], [Depends(RequireScope("admin"))]


@router.get("/models", response_model=ModelsReply, dependencies=_READ)
async def list_models(context: Ctx) -> Response:
    """Returns the served models, the default one first."""
    models = [_describe(context, model) for model in context.engine.models.values()]
    cascade = context.cascade.names if context.cascade is not None else []
    return reply({"models": models, "cascade": cascade})


@router.get("/models/{model}/metrics", response_model=MetricsReply, dependencies=_READ)
async def model_metrics(context: Ctx, model: str) -> Response:
    """Returns the results of training and evaluation of a model."""
    served = context.engine.model(model)
    return reply(await asyncio.to_thread(_metrics, served))


@router.post("/admin/reload", response_model=ReloadReply, dependencies=_ADMIN)
async def reload(body: ReloadRequest, context: Ctx) -> Response:
    """Reloads one model or all from their folders. No request fails meanwhile.

    If a run cannot be opened, the served model stays. Otherwise the other servers of the store
    reload their models too.
    """
    try:
        models = await asyncio.to_thread(context.engine.reload, body.model)
    except UnknownModelError:
        raise
    except SeqloomError as error:
        raise ProblemError(409, "reload", "The run cannot be opened", str(error)) from error
    await context.storage.write("announcing a reload", context.engine.announce_reload)
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
        "tail_below": model.head_count,
    }


def _metrics(model: ServedModel) -> dict[str, Any]:
    """Reads the metrics files of a run. Their names never come from a request.

    Raises:
        ArtefactError: one of them is damaged.
    """
    files = sorted(model.run.path.glob("metrics*.json"))
    evaluations = [read_json(file, "evaluation") for file in files]
    for file, evaluation in zip(files, evaluations, strict=True):
        if not isinstance(evaluation, dict):
            raise ArtefactError(f"{file} holds no JSON object; evaluate the run again")
    manifest = model.run.manifest
    return {
        "model": model.name,
        "version": model.version,
        "parameters": manifest.parameters,
        "seconds_total": manifest.cost.seconds_total,
        "evaluations": evaluations,
        "log": model.run.log,
    }
