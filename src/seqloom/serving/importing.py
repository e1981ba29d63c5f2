"""The events of the runs' data sets as histories of a new store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from seqloom.core.errors import SeqloomError
from seqloom.core.progress import Progress, Task
from seqloom.data.store import Dataset
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.store.base import UNKNOWN_TIME, Event, Store

_USERS_AT_ONCE = 2000


def import_histories(store: Store, models: Iterable[ServedModel], progress: Progress) -> int:
    """Keep the events of each model's data set, once for each data set; gives how many are new.

    All events count, held-out ones too: a server answers from what it knows. Where a data set is no
    longer there, that is said, and users begin without history.

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
        with progress.task("import histories", dataset.num_users, "users") as task:
            chunks = _chunks(dataset, task)
            count += store.import_events(reference.fingerprint, chunks)
    return count


def _chunks(dataset: Dataset, task: Task) -> Iterator[list[Event]]:
    """The events of some users at once, each user's in their order."""
    items, offsets = dataset.events.items, dataset.events.offsets.tolist()
    times = dataset.events.timestamps
    for first in range(0, dataset.num_users, _USERS_AT_ONCE):
        users = dataset.user_ids[first : first + _USERS_AT_ONCE]
        bounds = offsets[first : first + len(users) + 1]
        span = slice(bounds[0], bounds[-1])
        owners = [
            user
            for user, start, end in zip(users, bounds[:-1], bounds[1:], strict=True)
            for _ in range(end - start)
        ]
        numbers = items[span].tolist()
        when = [UNKNOWN_TIME] * len(numbers) if times is None else times[span].tolist()
        yield [
            Event(user, dataset.item_ids[number - 1], at)
            for user, number, at in zip(owners, numbers, when, strict=True)
        ]
        task.advance(len(users))
