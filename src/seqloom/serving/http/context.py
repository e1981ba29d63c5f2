"""The objects that the endpoints share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request, Response
from pydantic_core import to_json

from seqloom.serving.config import ServerConfig
from seqloom.serving.engine.cascade import Cascade
from seqloom.serving.engine.engine import Engine
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.engine.queries import Scored
from seqloom.serving.engine.search import TitleIndex
from seqloom.serving.http.authorization import Authorizer
from seqloom.serving.http.metrics import Metrics
from seqloom.serving.http.storage import Storage
from seqloom.serving.store.base import Store
from seqloom.text.prompts import title_column


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
    _indexes: dict[str, tuple[ServedModel, TitleIndex]] = field(default_factory=dict)

    def title(self, model: ServedModel, item_id: str) -> str | None:
        """Returns the title of an item: the live one, else that of the run."""
        live = self.engine.live.items.get(item_id)
        if live is not None and live.attributes:
            return self.live_title(live.attributes)
        number = model.run.item_numbers.get(item_id, 0)
        return model.run.titles[number - 1] if number else None

    def live_title(self, attributes: dict[str, str]) -> str | None:
        """Returns the title in an item's attributes."""
        return attributes[title_column(list(attributes))] or None if attributes else None

    def index(self, model: ServedModel) -> TitleIndex:
        """Returns the index of a run's titles, which the first search builds."""
        held = self._indexes.get(model.name)
        if held is None or held[0] is not model:
            held = (model, TitleIndex([title or "" for title in model.run.titles]))
            self._indexes[model.name] = held
        return held[1]

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
                "title": self.title(model, item.item_id),
                "tail": model.is_tail(item.number),
            }
            for item in items
        ]


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
