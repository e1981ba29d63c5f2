"""The objects that the endpoints share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request, Response
from pydantic_core import to_json

from seqloom.llm.explaining.explainer import Explainer
from seqloom.serving.config import ServerConfig
from seqloom.serving.engine.cascade import Cascade
from seqloom.serving.engine.engine import Engine
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.engine.parts import EventParts
from seqloom.serving.engine.pictures import Pictures, is_picture_column
from seqloom.serving.engine.queries import Scored
from seqloom.serving.engine.reranking import RerankStage
from seqloom.serving.engine.titles import Titles
from seqloom.serving.http.authorization import Authorizer
from seqloom.serving.http.metrics import Metrics
from seqloom.serving.http.storage import Storage
from seqloom.serving.http.trials import Trials
from seqloom.serving.store.base import Store

LONGEST_SHOWN = 300
"""Characters of an attribute in a list."""


@dataclass
class Context:
    """The objects of one server."""

    config: ServerConfig
    engine: Engine
    store: Store
    authorizer: Authorizer
    metrics: Metrics
    cascade: Cascade | None
    storage: Storage
    titles: Titles
    reranking: RerankStage | None
    explainer: Explainer
    parts: EventParts
    pictures: Pictures
    trials: Trials = field(default_factory=Trials)

    def columns(self, model: ServedModel) -> list[str]:
        """Returns the text columns of a run's catalogue."""
        return [name for name in model.run.items.column_names if name != "item_id"]

    def entries(
        self, model: ServedModel, items: Iterable[Scored], details: bool
    ) -> list[dict[str, object]]:
        """Returns the entries of a list, as `ItemOut` describes them."""
        if not details:
            return [{"item_id": item.item_id, "score": item.score} for item in items]
        return [
            {
                "item_id": item.item_id,
                "score": item.score,
                "tail": model.is_tail(item.number),
                **self.description(model, item.item_id),
            }
            for item in items
        ]

    def description(self, model: ServedModel, item_id: str) -> dict[str, object]:
        """Returns title, attributes and picture of an item, as `DescribedItem` describes them."""
        attributes = self.titles.attributes(model, item_id)
        return {
            "title": self.titles.title(model, item_id),
            "attributes": {
                name: text[:LONGEST_SHOWN]
                for name, text in attributes.items()
                if not is_picture_column(name)
            },
            "picture": self.pictures.find(attributes),
        }


async def _context(request: Request) -> Context:
    # async: FastAPI would hand a plain function to a thread, for every request.
    context: Context = request.app.state.context
    return context


Ctx = Annotated[Context, Depends(_context)]


def reply(document: object, headers: dict[str, str] | None = None) -> Response:
    """Makes a JSON response of plain data. The endpoint's `response_model` describes it; a test compares."""
    return Response(to_json(document), headers=headers, media_type="application/json")


def unique(ids: Sequence[str]) -> list[str]:
    """Removes repeated ids; the order stays."""
    return list(dict.fromkeys(ids))
