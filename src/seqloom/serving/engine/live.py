"""The live catalogue of all models: stores changes and applies those of other servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from seqloom.serving.engine.model import ServedModel
from seqloom.serving.store.base import LiveItem, Store


class LiveCatalogue:
    """Items added, redescribed or removed since training, kept in the store.

    `models` gives the models served now.
    """

    def __init__(self, store: Store, models: Callable[[], Sequence[ServedModel]]) -> None:
        self._store = store
        self._models = models
        self._lock = threading.RLock()
        self._version = 0
        self.items: dict[str, LiveItem] = {}
        """The latest change of each item."""

    def put(self, item_id: str, attributes: Mapping[str, str]) -> None:
        """Embeds and stores an item and adds it to every model. Does nothing if it has this text already.

        Raises:
            SeqloomError: the text cannot be embedded, or the store refuses.
        """
        self.refresh()
        held = self.items.get(item_id)
        if held is not None and not held.removed and held.attributes == dict(attributes):
            return
        vectors = {}
        for reader in (model.reader for model in self._models()):
            if reader is not None and reader.text is not None and reader.text.key not in vectors:
                embedded = reader.text.embed(reader.table([item_id], [attributes]))
                vectors[reader.text.key] = reader.text.dump(embedded[0])
        self._store.put_item(LiveItem(item_id, dict(attributes), vectors=vectors))
        self.refresh()

    def remove(self, item_id: str, attributes: Mapping[str, str]) -> None:
        """Stores that an item is never to be recommended, and updates every model.

        Raises:
            StoreError: the store refuses.
        """
        self._store.put_item(LiveItem(item_id, dict(attributes), removed=True))
        self.refresh()

    def refresh(self) -> None:
        """Applies the changes of the store that the models do not have yet.

        Raises:
            StoreError: the store does not answer.
        """
        with self._lock:
            changes = self._store.items_since(self._version)
            if not changes:
                return
            for model in self._models():
                model.apply(changes)
            self.items = {**self.items, **{item.item_id: item for item in changes}}
            self._version = changes[-1].version

    def install(self, model: ServedModel, publish: Callable[[ServedModel], None]) -> None:
        """Applies all changes to a newly loaded model and publishes it, under one lock."""
        with self._lock:
            model.apply(list(self.items.values()))
            publish(model)
