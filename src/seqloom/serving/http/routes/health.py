"""For machines that watch: alive, ready, measured."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST

from seqloom.serving.http.context import Ctx, reply
from seqloom.serving.http.guard import Needs
from seqloom.serving.http.replies import HealthReply, ReadyReply

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=HealthReply)
async def healthz() -> Response:
    """The process answers."""
    return reply({"status": "ok"})


@router.get("/readyz", response_model=ReadyReply)
async def readyz(context: Ctx) -> Response:
    """The models are loaded, the store answers and takes writes; 503 where it does not."""
    await context.storage.ready()
    versions = {model.name: model.version for model in context.engine.models.values()}
    return reply({"status": "ready", "store": context.store.name, "models": versions})


@router.get("/metrics", response_class=Response, dependencies=[Depends(Needs("read"))])
async def metrics(context: Ctx) -> Response:
    """Counters and histograms in Prometheus' text format."""
    return Response(context.metrics.text(), media_type=CONTENT_TYPE_LATEST)
