"""Imports the events of the runs' data sets into a store."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from seqloom.core.errors import SeqloomError
from seqloom.core.progress import Progress, Task
from seqloom.data.store import Dataset
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.store.base import UNKNOWN_TIME, Event, Store

_EVENTS_AT_ONCE = 20_000
"""Approximate number of events of one transaction, which bounds the wait of concurrent writes."""
_DAY_S = 24 * 3600


def import_histories(store: Store, models: Iterable[ServedModel], progress: Progress) -> int:
    """Stores the events of each model's data set; returns the number of new ones.

    Events that the store has already, from another data set or a request, are not stored again; events of
    erased users stay out (see `Store.import_events`). Held-out events are imported too, because a server
    uses the full history. A deleted data set causes a warning; its users start without history.

    Raises:
        StoreError: the store refuses.
    """
    count = 0
    seen: set[str] = set()
    for model in models:
        reference = model.run.manifest.dataset
        if reference.fingerprint in seen or store.imported(reference.fingerprint):
            continue
        seen.add(reference.fingerprint)
        try:
            dataset = model.run.dataset()
        except SeqloomError as error:
            progress.warn(f"the users of {model.name} have no history yet: {error}")
            continue
        _warn_of_future(dataset, progress)
        with progress.task("import histories", dataset.num_users, "users") as task:
            chunks = _chunks(dataset, task)
            count += store.import_events(reference.fingerprint, chunks)
    return count


def events_of(dataset: Dataset, first: int, last: int) -> list[Event]:
    """Returns the events of the users numbered `first` to `last` - 1, user by user."""
    users = dataset.user_ids[first:last]
    bounds = dataset.events.offsets[first : last + 1].tolist()
    span = slice(bounds[0], bounds[-1])
    owners = [
        user
        for user, start, end in zip(users, bounds[:-1], bounds[1:], strict=True)
        for _ in range(end - start)
    ]
    items = [dataset.item_ids[number - 1] for number in dataset.events.items[span].tolist()]
    times = dataset.events.timestamps
    if times is None:
        return _without_times(owners, items)
    return [
        Event(user, item, at)
        for user, item, at in zip(owners, items, times[span].tolist(), strict=True)
    ]


def _without_times(users: Sequence[str], items: Sequence[str]) -> list[Event]:
    """Yields events without times; `occurrence` counts those of the same user and item."""
    before: Counter[tuple[str, str]] = Counter()
    events = []
    for pair in zip(users, items, strict=True):
        events.append(Event(*pair, UNKNOWN_TIME, before[pair]))
        before[pair] += 1
    return events


def _chunks(dataset: Dataset, task: Task) -> Iterator[list[Event]]:
    """Yields the events of several users together."""
    at_once = max(1, _EVENTS_AT_ONCE * dataset.num_users // max(1, dataset.num_events))
    for first in range(0, dataset.num_users, at_once):
        last = min(first + at_once, dataset.num_users)
        yield events_of(dataset, first, last)
        task.advance(last - first)


def _warn_of_future(dataset: Dataset, progress: Progress) -> None:
    times = dataset.events.timestamps
    ahead = 0 if times is None else int((times > time.time() + _DAY_S).sum())
    if ahead:
        progress.warn(
            f"{ahead:,} events of {dataset.path} have a time in the future: they remain the last "
            "events of their users; prepare the log again with the right --timestamp-unit"
        )
