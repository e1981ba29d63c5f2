"""The application: endpoints around one engine and one store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.security import HTTPBearer

from seqloom._version import __version__
from seqloom.core.errors import StoreError
from seqloom.llm.explaining.explainer import Explainer
from seqloom.serving.config import ServerConfig
from seqloom.serving.engine.cascade import Cascade
from seqloom.serving.engine.engine import Engine
from seqloom.serving.engine.parts import EventParts
from seqloom.serving.engine.pictures import Pictures
from seqloom.serving.engine.reranking import RerankStage
from seqloom.serving.engine.scheduler import OverloadedError
from seqloom.serving.engine.titles import Titles
from seqloom.serving.http import problems
from seqloom.serving.http.authorization import Authorizer
from seqloom.serving.http.context import Context
from seqloom.serving.http.metrics import Metrics
from seqloom.serving.http.middleware import RequestMiddleware
from seqloom.serving.http.routes import (
    explore,
    health,
    items,
    models,
    pages,
    recommend,
    users,
)
from seqloom.serving.http.storage import Storage
from seqloom.serving.store.base import RECEIPT_LIFETIME_S, Store

_LOG = logging.getLogger("seqloom.serving")
_PURGE_EVERY_S = 600.0
_PROBLEMS = ("400", "401", "403", "404", "409", "413", "422", "429", "503")


def build_app(config: ServerConfig, engine: Engine, store: Store, metrics: Metrics) -> FastAPI:
    """Builds the application. The caller closes the engine and the store.

    Raises:
        ConfigError: tokens are off where others can reach the server, or a language model is behind an
            endpoint and none is set.
        UnknownModelError: the cascade names a model that is not served.
    """
    authorizer = Authorizer(store, config)
    cascade = Cascade(engine, config.cascade) if config.cascade else None
    app = FastAPI(
        title="seqloom",
        version=__version__,
        summary="Recommendations from trained runs",
        docs_url=None,  # replaced by a page that loads nothing from other hosts
        redoc_url=None,
        lifespan=_lifespan,
        responses={code: {"model": problems.ProblemDocument} for code in _PROBLEMS},
    )
    titles = Titles(engine)
    reranking = RerankStage(config.rerank, titles.title) if config.rerank.model else None
    storage = Storage(store, metrics)
    explainer = Explainer(config.explain)
    context = Context(
        config,
        engine,
        store,
        authorizer,
        metrics,
        cascade,
        storage,
        titles,
        reranking,
        explainer,
        EventParts(),
        Pictures(config.pictures),
    )
    app.state.context = context
    metrics.watch(
        engine.waiting,
        lambda: {name: (m.version, m.system) for name, m in engine.models.items()},
        lambda: {n: m.recall.recall for n, m in engine.models.items() if m.recall is not None},
    )
    app.router.routes.append(recommend.direct_route(context))
    for module in (health, recommend, explore, users, items, models):
        app.include_router(module.router)
    app.include_router(pages.router(config.pictures))
    problems.install(app)
    app.add_middleware(RequestMiddleware, authorizer=authorizer, metrics=metrics, config=config)
    _describe_problems(app, HTTPBearer() if authorizer.required else None)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    tasks = [
        asyncio.create_task(_purge(context)),
        asyncio.create_task(explore.choose_at_start(context)),
    ]
    yield
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    context.storage.close()
    if context.reranking is not None:
        context.reranking.close()


async def _purge(context: Context) -> None:
    """Deletes expired idempotency keys, every ten minutes."""
    while True:
        try:
            before = int(time.time()) - RECEIPT_LIFETIME_S
            await context.storage.write("purging receipts", context.store.purge, before)
        except (StoreError, OverloadedError) as error:
            _LOG.error("cannot purge receipts", extra={"fields": {"error": str(error)}})
        await asyncio.sleep(_PURGE_EVERY_S)


def _describe_problems(app: FastAPI, bearer: HTTPBearer | None) -> None:
    """Describes errors as problem documents, and the tokens that endpoints need."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = plain()
            for path, operations in schema["paths"].items():
                for operation in operations.values():
                    for code, response in operation["responses"].items():
                        if code >= "4" and "application/json" in response.get("content", {}):
                            content = response["content"]
                            content[problems.MEDIA_TYPE] = content.pop("application/json")
                    if bearer is not None and path.startswith(("/v1/", "/metrics")):
                        operation["security"] = [{"token": []}]
            if bearer is not None:
                schemes = schema["components"].setdefault("securitySchemes", {})
                schemes["token"] = {"type": "http", "scheme": "bearer"}
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
