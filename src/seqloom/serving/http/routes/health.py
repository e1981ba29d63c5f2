"""Endpoints for monitoring: liveness, readiness, metrics."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST

from seqloom.serving.http.authorization import RequireScope
from seqloom.serving.http.context import Ctx, reply
from seqloom.serving.http.replies import HealthReply, ReadyReply

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=HealthReply)
async def healthz() -> Response:
    """Returns 200 while the process answers."""
    return reply({"status": "ok"})


@router.get("/readyz", response_model=ReadyReply)
async def readyz(context: Ctx) -> Response:
    """Returns 200 if the models are loaded and the store answers and takes writes, else 503."""
    await context.storage.ready()
    versions = {model.name: model.version for model in context.engine.models.values()}
    return reply({"status": "ready", "store": context.store.name, "models": versions})


@router.get("/metrics", response_class=Response, dependencies=[Depends(RequireScope("read"))])
async def metrics(context: Ctx) -> Response:
    """Returns counters and histograms in Prometheus' text format."""
    return Response(context.metrics.text(), media_type=CONTENT_TYPE_LATEST)
