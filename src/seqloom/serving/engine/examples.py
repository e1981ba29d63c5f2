"""Users that show what the served models do, for a page that must not open empty."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError
from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.core.errors import SeqloomError
from seqloom.serving.engine.engine import Engine
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.engine.queries import Answer, Recommend
from seqloom.serving.store.base import UNKNOWN_TIME, Event, Store

_LENGTHS = (20, 50)
"""Events of a good example: a history that fills a chart and can be read."""
_DAYS = 3
_SHARED = (3, 8)
"""Items of ten that two good lists share: neither equal nor unrelated."""
_ASKED = 40
_KEPT = 12
_BUDGET_S = 3.0
_DAY_S = 24 * 3600
_MOST_EVENTS = 20_000_000
"""Events of a data set from which on it is not opened for examples."""


@dataclass(frozen=True)
class ExampleUser:
    """A user worth opening with."""

    user_id: str
    events: int
    days: int | None
    """Days with events (UTC); None where times are not known."""
    shared: int | None
    """Items that the lists of the first two models share; None with one model."""

    @property
    def strangeness(self) -> float:
        """How far the user is from a good example; 0 for one."""
        far = _outside(self.events, *_LENGTHS) / _LENGTHS[0]
        far += 0.25 if self.days is None else _outside(self.days, _DAYS, self.events) / _DAYS
        return far + (0.0 if self.shared is None else _outside(self.shared, *_SHARED) / 3)


def choose_examples(engine: Engine, store: Store) -> list[ExampleUser]:
    """Returns users with readable histories on whom the first two models partly agree, the best first.

    Without such users, those that come closest. Takes a few seconds at most, and writes nothing.

    Raises:
        StoreError: the store does not answer.
    """
    models = list(engine.models)[:2]
    ends = time.monotonic() + _BUDGET_S
    users = sample_users(engine.model(), store, _ASKED, readable=True)
    histories = _exports(store, users) or _exports(store, store.find_users("", _ASKED))
    asked = {
        user: [_ask(engine, model, user) for model in models] if len(models) > 1 else []
        for user in histories
    }
    examples = []
    for user, futures in asked.items():
        lists = [_items(future, ends - time.monotonic()) for future in futures]
        shared = len(lists[0] & lists[1]) if len(lists) == 2 and all(lists) else None
        if len(models) > 1 and shared is None:
            continue
        events = histories[user]
        examples.append(ExampleUser(user, len(events), _days(events), shared))
    if not examples:  # the models are slow, or fail: a history is still worth seeing
        examples = [ExampleUser(u, len(e), _days(e), None) for u, e in histories.items()]
    return sorted(examples, key=lambda each: each.strangeness)[:_KEPT]


def sample_users(
    model: ServedModel, store: Store, count: int, *, readable: bool = False
) -> list[str]:
    """Returns users of the model's data set, spread evenly; of the store where the data set is gone.

    `readable` prefers those whose history fills a page and can still be read.
    """
    counts = model.counts
    if counts is None or int(counts.sum()) <= _MOST_EVENTS:
        try:
            dataset = model.run.dataset()
            users = torch.arange(dataset.num_users)
            if readable:
                users = _readable(dataset.events.offsets.diff(), 4 * count)
            chosen = users[:: max(1, len(users) // count)][:count].tolist()
            names = dataset.users.column("user_id")
            return [names[user].as_py() for user in chosen]
        except SeqloomError:
            pass  # the data set is gone; the store has its users
    return store.find_users("", count)


def _readable(lengths: Tensor, most: int) -> Tensor:
    """The users with histories of a readable length; without any, the `most` that come closest."""
    fits = torch.nonzero((lengths >= _LENGTHS[0]) & (lengths <= _LENGTHS[1])).flatten()
    if len(fits):
        return fits
    return lengths.clamp(max=_LENGTHS[1]).argsort(descending=True)[:most]


def _exports(store: Store, users: Sequence[str]) -> dict[str, list[Event]]:
    return {user: events for user in users if (events := store.export(user))}


def _ask(engine: Engine, model: str, user: str) -> Future[Answer] | None:
    try:
        return engine.submit(model, Recommend(user_id=user))
    except SeqloomError:
        return None


def _items(future: Future[Answer] | None, seconds: float) -> set[str]:
    """The list of a future; nothing where it fails or is late."""
    if future is None:
        return set()
    try:
        return {item.item_id for item in future.result(max(0.0, seconds)).items}
    except (SeqloomError, LateError):
        future.cancel()
        return set()


def _days(events: Sequence[Event]) -> int | None:
    times = {event.timestamp // _DAY_S for event in events if event.timestamp != UNKNOWN_TIME}
    return len(times) or None


def _outside(value: float, lowest: float, highest: float) -> float:
    return max(lowest - value, value - highest, 0.0)
