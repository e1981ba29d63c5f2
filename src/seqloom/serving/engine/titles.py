"""Titles and attributes of items, live ones included, and the search for items by them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from seqloom.serving.engine.engine import Engine
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.engine.search import TextIndex, fold, words_of
from seqloom.text.prompts import title_column

_LONGEST_SEARCHED = 80
"""Only the beginnings of attributes are searched: names, brands and categories, not descriptions."""


class Titles:
    """What the items of an engine's models are called."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._indexes: dict[str, tuple[ServedModel, TextIndex]] = {}
        self._building = threading.Lock()

    def title(self, model: ServedModel, item_id: str) -> str | None:
        """Returns the title of an item: the live one, else that of the run."""
        live = self._engine.live.items.get(item_id)
        if live is not None and live.attributes:
            return live_title(live.attributes)
        number = model.run.item_numbers.get(item_id, 0)
        return model.run.titles[number - 1] if number else None

    def attributes(self, model: ServedModel, item_id: str) -> dict[str, str]:
        """Returns the texts of an item by column, without the one that names it and empty ones."""
        live = self._engine.live.items.get(item_id)
        if live is not None and live.attributes:
            row: Mapping[str, str | None] = live.attributes
        else:
            number = model.run.item_numbers.get(item_id, 0)
            row = model.run.items.slice(number - 1, 1).to_pylist()[0] if number else {}
        columns = [name for name in row if name != "item_id"]
        naming = title_column(columns) if columns else None
        texts = ((name, row[name]) for name in columns if name != naming)
        return {name: text for name, text in texts if text}

    def find(self, model: ServedModel, query: str, limit: int) -> list[dict[str, Any]]:
        """Finds items: those put in while serving, then the others by match and number of events."""
        words = set(words_of(query))
        found: list[dict[str, Any]] = []
        live = self._engine.live.items
        for item in live.values():
            if item.removed or not (words or query.strip()):
                continue
            title = live_title(item.attributes) or ""
            own = words_of(" ".join([title, *_searched(item.attributes)]))
            by_words = words and all(any(o.startswith(w) for o in own) for w in words)
            if by_words or fold(item.item_id) == fold(query.strip()):
                found.append({"item_id": item.item_id, "title": title})
        counts = None if model.counts is None else model.counts.numpy()
        index = self._index(model)
        if counts is not None and len(counts) < len(model.run.item_ids):  # items added to the run
            counts = np.pad(counts, (0, len(model.run.item_ids) - len(counts)))
        for row in index.find(query, counts, limit + len(live)):
            item_id = model.run.item_ids[row]
            if item_id not in live:
                found.append({"item_id": item_id, "title": model.run.titles[row]})
        return found[:limit]

    def _index(self, model: ServedModel) -> TextIndex:
        """The index of a run's texts, which the first search builds."""
        with self._building:
            held = self._indexes.get(model.name)
            if held is None or held[0] is not model:
                held = (model, TextIndex(_texts(model), model.run.item_ids))
                self._indexes[model.name] = held
            return held[1]


def live_title(attributes: Mapping[str, str]) -> str | None:
    """Returns the title in an item's attributes."""
    return attributes[title_column(list(attributes))] or None if attributes else None


def _texts(model: ServedModel) -> list[str]:
    """The searched text of each item of a run: its title and its short attributes."""
    items = model.run.items
    names = [name for name in items.column_names if name != "item_id"]
    naming = title_column(names) if names else None
    columns = [items.column(name).to_pylist() for name in names if name != naming]
    titles = [title or "" for title in model.run.titles]
    if not columns:
        return titles
    rows = zip(*columns, strict=True)
    return [
        " ".join([title, *(text for text in row if text and len(text) <= _LONGEST_SEARCHED)])
        for title, row in zip(titles, rows, strict=True)
    ]


def _searched(attributes: Mapping[str, str]) -> list[str]:
    return [text for text in attributes.values() if text and len(text) <= _LONGEST_SEARCHED]
