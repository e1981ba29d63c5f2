"""Verifies that a run's data set has the same users and items as the store.

A store has one set of users for all its runs. Ids alone do not distinguish two shops, because many number
users and items from 1. So the store keeps a sample of the catalogue, and a new data set must agree with it:

1. Users of both with the same events, at the same times, show one log. Users of both whose events of one
   period are others show two.
2. Items of both with the same titles, or ids that are no plain numbers, show one catalogue.

Without a sign the data set is refused.

Source: Broder 1997, "On the resemblance and containment of documents": the smallest hashes of two sets are
a uniform sample of their union.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final

from seqloom.core.errors import ConfigError, SeqloomError, StoreError
from seqloom.data.store import Dataset
from seqloom.runs.folder import Run
from seqloom.serving.importing import events_of
from seqloom.serving.store.base import UNKNOWN_TIME, Event, Store

_SAMPLE = 512
_USERS = 200
_ATTEMPTS = 20
_AGREES: Final = 0.5
_DIFFERS: Final = 0.1
_FEWEST = 3
"""With fewer events or items to compare, no difference is reported."""


@dataclass(frozen=True)
class StoreLineage:
    """The data sets that a store was used with."""

    data_sets: tuple[str, ...]
    """Fingerprints in the order of use."""
    items: dict[str, str]
    """Hash of the id to hash of the title ("" without one): the items with the smallest hashes."""

    @classmethod
    def read(cls, text: str) -> StoreLineage:
        """Parses what `text` returned."""
        held = json.loads(text)
        return cls(tuple(held["data_sets"]), held["items"])

    def text(self) -> str:
        """Returns the form in which a store keeps it."""
        return json.dumps({"data_sets": self.data_sets, "items": self.items})

    def with_dataset(self, fingerprint: str, items: dict[str, str]) -> StoreLineage:
        """Returns a copy with one more data set."""
        both = {**self.items, **items}
        return StoreLineage(
            (*self.data_sets, fingerprint), {k: both[k] for k in sorted(both)[:_SAMPLE]}
        )


def admit(store: Store, name: str, run: Run, *, accept_other: bool = False) -> None:
    """Verifies that a run has the store's users and items, and records its data set in the store.

    With `accept_other` a data set without evidence is accepted.

    Raises:
        ConfigError: users and items differ, or nothing shows that they are the same.
        StoreError: the store refuses.
    """
    fingerprint = run.manifest.dataset.fingerprint
    sample: dict[str, str] | None = None
    for _ in range(_ATTEMPTS):
        held = store.lineage()
        known = None if held is None else StoreLineage.read(held)
        if known is not None and fingerprint in known.data_sets:
            return
        if sample is None:
            sample = _sample(run)
        if not accept_other:
            reason = _objection(store, known, run, sample)
            if reason:
                raise ConfigError(_refusal(store, name, run, known, reason))
        joined = (known or StoreLineage((), {})).with_dataset(fingerprint, sample)
        if store.set_lineage(joined.text(), held):
            return
    raise StoreError("other servers keep changing the store's data sets; start again")


def _refusal(store: Store, name: str, run: Run, known: StoreLineage | None, reason: str) -> str:
    first = f" (first data set {known.data_sets[0][:12]})" if known and known.data_sets else ""
    return (
        f"run {name!r} is of data set {run.manifest.dataset.fingerprint[:12]} "
        f"({run.manifest.dataset.path}), but {store.where} holds other users and items{first}: {reason}. "
        "Users would get the histories of others: name another --store for this run; if they are the "
        "same users and items, start once with --set engine.accept_other_data=true"
    )


def _objection(store: Store, known: StoreLineage | None, run: Run, sample: dict[str, str]) -> str:
    """Returns why a data set is refused; empty where it is accepted."""
    imported = store.imported(run.manifest.dataset.fingerprint)
    some_users = store.find_users("", _USERS)
    if imported or (known is None and not some_users):
        return ""
    try:
        compared = _compare_users(store, run.dataset(), some_users)
    except StoreError:
        raise
    except SeqloomError:  # the data set was deleted; the run has its catalogue
        compared = (0, 0)
    same, comparable = compared
    if comparable and same >= _AGREES * comparable:
        return ""
    if comparable >= _FEWEST and same < _DIFFERS * comparable:
        return f"users of the same ids have other events ({same} of {comparable} compared agree)"
    if known is None:  # written by an older version
        items = {event.item_id for user in some_users for event in store.export(user)}
        if len(items) < _FEWEST:
            return ""
        return _other_items({_hash(item): "" for item in items}, sample, run.item_ids)
    return _other_items(known.items, sample, run.item_ids)


def _compare_users(store: Store, dataset: Dataset, some_users: Sequence[str]) -> tuple[int, int]:
    """Counts events of shared users that agree, and those compared."""
    step = max(1, dataset.num_users // _USERS)
    users = dict.fromkeys([*some_users, *dataset.user_ids[::step]])
    same = comparable = 0
    for user in users:
        number = dataset.user_numbers.get(user)
        kept = [] if number is None else store.export(user)
        if number is None or not kept:
            continue
        own = events_of(dataset, number, number + 1)
        each, of = _count_agreeing(kept, own)
        same, comparable = same + each, comparable + of
    return same, comparable


def _count_agreeing(kept: Sequence[Event], own: Sequence[Event]) -> tuple[int, int]:
    """Counts the events shared by two histories of one user id, and the largest possible number.

    With known times, only the period that both histories cover counts.
    """
    if any(event.timestamp == UNKNOWN_TIME for event in (*kept, *own)):
        items = [event.item_id for event in kept], [event.item_id for event in own]
        blocks = SequenceMatcher(None, *items, autojunk=False).get_matching_blocks()
        return sum(block.size for block in blocks), min(map(len, items))
    start = max(min(e.timestamp for e in each) for each in (kept, own))
    end = min(max(e.timestamp for e in each) for each in (kept, own))
    first, second = (
        Counter((e.item_id, e.timestamp) for e in each if start <= e.timestamp <= end)
        for each in (kept, own)
    )
    return (first & second).total(), min(first.total(), second.total())


def _other_items(known: dict[str, str], new: dict[str, str], item_ids: Iterable[str]) -> str:
    """Returns why two catalogues differ; empty where they agree."""
    sampled = sorted({**known, **new})[:_SAMPLE]
    both = [key for key in sampled if key in known and key in new]
    smaller = min(sum(key in each for key in sampled) for each in (known, new))
    titled = [key for key in both if known[key] and new[key]]
    alike = sum(known[key] == new[key] for key in titled)
    if titled and alike >= _AGREES * len(titled):
        if alike >= _DIFFERS * smaller:
            return ""
    elif titled:
        return f"items of the same ids have other titles ({alike} of {len(titled)} compared agree)"
    if len(both) < _AGREES * max(smaller, 1):
        return f"{len(both)} of {smaller} compared items are in both"
    named = {_hash(item) for item in item_ids if not item.isdecimal()}
    if sum(key in named for key in both) >= _AGREES * len(both):
        return ""
    return "nothing but plain numbers, which any shop may count, is in both"


def _sample(run: Run) -> dict[str, str]:
    """Returns the items with the smallest hashes of their ids, each with the hash of its title."""
    marks = (
        (_hash(i), _hash(t) if t else "") for i, t in zip(run.item_ids, run.titles, strict=True)
    )
    return dict(heapq.nsmallest(_SAMPLE, marks))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
