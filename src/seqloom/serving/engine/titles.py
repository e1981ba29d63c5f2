"""Titles of items, live ones included, and the search for items by words of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqloom.serving.engine.engine import Engine
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.engine.search import TitleIndex
from seqloom.text.prompts import title_column


class Titles:
    """What the items of an engine's models are called."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._indexes: dict[str, tuple[ServedModel, TitleIndex]] = {}

    def title(self, model: ServedModel, item_id: str) -> str | None:
        """Returns the title of an item: the live one, else that of the run."""
        live = self._engine.live.items.get(item_id)
        if live is not None and live.attributes:
            return live_title(live.attributes)
        number = model.run.item_numbers.get(item_id, 0)
        return model.run.titles[number - 1] if number else None

    def find(self, model: ServedModel, query: str, limit: int) -> list[dict[str, Any]]:
        """Finds items by beginnings of words: those put in while serving, then the others by their events."""
        words = query.lower().split()
        found: list[dict[str, Any]] = []
        live = self._engine.live.items
        for item in live.values():
            title = live_title(item.attributes) or ""
            if words and not item.removed and all(word in title.lower() for word in words):
                found.append({"item_id": item.item_id, "title": title})
        rows = self._index(model).find(query).tolist()
        counts = model.counts
        if counts is not None:
            rows.sort(key=lambda row: -int(counts[row]))
        for row in rows[: limit + len(live)]:
            item_id = model.run.item_ids[row]
            if item_id not in live:
                found.append({"item_id": item_id, "title": model.run.titles[row]})
        return found[:limit]

    def _index(self, model: ServedModel) -> TitleIndex:
        """The index of a run's titles, which the first search builds."""
        held = self._indexes.get(model.name)
        if held is None or held[0] is not model:
            held = (model, TitleIndex([title or "" for title in model.run.titles]))
            self._indexes[model.name] = held
        return held[1]


def live_title(attributes: Mapping[str, str]) -> str | None:
    """Returns the title in an item's attributes."""
    return attributes[title_column(list(attributes))] or None if attributes else None
