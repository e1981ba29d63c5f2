"""Which of a user's events a run was trained on, and which were held out."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Sequence

import pyarrow.compute as pc

from seqloom.core.errors import SeqloomError
from seqloom.data.store import Dataset
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.store.base import UNKNOWN_TIME, Event

AFTER = "after"
"""The part of an event that is not in the data set: it came after the training."""


class EventParts:
    """Looks events up in the data sets of runs, each opened at its first use."""

    def __init__(self) -> None:
        self._datasets: dict[str, Dataset | None] = {}
        self._lock = threading.Lock()

    def of(self, model: ServedModel, user_id: str, events: Sequence[Event]) -> list[str | None]:
        """Returns the part of each event of a user.

        `train`, `valid`, `test`, `unused` (held out and used by no part) or `after`; None where the data
        set is gone. Reads files.
        """
        dataset = self._dataset(model)
        if dataset is None:
            return [None] * len(events)
        try:
            own = _parts_by_event(dataset, user_id)
        except SeqloomError:
            return [None] * len(events)
        timed = dataset.events.timestamps is not None
        parts: list[str | None] = []
        for event in events:
            at = event.timestamp if timed else UNKNOWN_TIME
            left = own.get((event.item_id, at))
            parts.append(left.popleft() if left else AFTER)
        return parts

    def _dataset(self, model: ServedModel) -> Dataset | None:
        key = model.run.manifest.dataset.fingerprint
        with self._lock:
            if key not in self._datasets:
                try:
                    self._datasets[key] = model.run.dataset(with_cold=True)
                except SeqloomError:
                    self._datasets[key] = None
            return self._datasets[key]


def _parts_by_event(dataset: Dataset, user_id: str) -> dict[tuple[str, int], deque[str]]:
    """The parts of a user's events by item and time, the oldest first."""
    # A scan of one column: a dictionary of all users would stay in memory.
    user = pc.index(dataset.users.column("user_id"), user_id).as_py()
    parts: dict[tuple[str, int], deque[str]] = defaultdict(deque)
    if user < 0:
        return parts
    events = dataset.events
    start, end = events.offsets[user : user + 2].tolist()
    held = {int(events.valid[user]): "valid", int(events.test[user]): "test"}
    train_end = int(events.train_end[user])
    names = dataset.items.column("item_id")
    for place in range(start, end):
        time = UNKNOWN_TIME if events.timestamps is None else int(events.timestamps[place])
        part = held.get(place) or ("train" if place < train_end else "unused")
        parts[names[int(events.items[place]) - 1].as_py(), time].append(part)
    return parts
