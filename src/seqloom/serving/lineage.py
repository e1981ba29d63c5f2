"""Whether a run's data set is of the same users and items as what a store holds.

A store has one set of users, whatever runs are served from it. Ids alone do not tell two shops apart: many
count their users and items from 1. So the store keeps a sample of the catalogue, and a data set it has not
met must agree with it:

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
"""Fewer events or items to compare show no difference."""


@dataclass(frozen=True)
class Lineage:
    """What a store knows of the data sets that it was used with."""

    data_sets: tuple[str, ...]
    """Fingerprints, the first one first."""
    items: dict[str, str]
    """Hash of the id to hash of the title ("" without one): the items with the smallest hashes."""

    @classmethod
    def read(cls, text: str) -> Lineage:
        """The inverse of `text`."""
        held = json.loads(text)
        return cls(tuple(held["data_sets"]), held["items"])

    def text(self) -> str:
        """As a store keeps it."""
        return json.dumps({"data_sets": self.data_sets, "items": self.items})

    def joined(self, fingerprint: str, items: dict[str, str]) -> Lineage:
        """With one data set more."""
        both = {**self.items, **items}
        return Lineage((*self.data_sets, fingerprint), {k: both[k] for k in sorted(both)[:_SAMPLE]})


def admit(store: Store, name: str, run: Run, *, accept_other: bool = False) -> None:
    """Make sure that a run is of the store's users and items, and let the store know its data set.

    With `accept_other` a data set that shows no sign of it is taken all the same.

    Raises:
        ConfigError: it is of others, or nothing shows that it is of the same.
        StoreError: the store refuses.
    """
    fingerprint = run.manifest.dataset.fingerprint
    sample: dict[str, str] | None = None
    for _ in range(_ATTEMPTS):
        held = store.lineage()
        known = None if held is None else Lineage.read(held)
        if known is not None and fingerprint in known.data_sets:
            return
        if sample is None:
            sample = _sample(run)
        if not accept_other:
            reason = _objection(store, known, run, sample)
            if reason:
                raise ConfigError(_refusal(store, name, run, known, reason))
        joined = (known or Lineage((), {})).joined(fingerprint, sample)
        if store.set_lineage(joined.text(), held):
            return
    raise StoreError("other servers change the store's data sets all the time; start again")


def _refusal(store: Store, name: str, run: Run, known: Lineage | None, reason: str) -> str:
    first = f" (first data set {known.data_sets[0][:12]})" if known and known.data_sets else ""
    return (
        f"run {name!r} is of data set {run.manifest.dataset.fingerprint[:12]} "
        f"({run.manifest.dataset.path}), but {store.where} holds other users and items{first}: {reason}. "
        "Users would get the histories of others: name another --store for this run; if they are the "
        "same users and items, start once with --set engine.accept_other_data=true"
    )


def _objection(store: Store, known: Lineage | None, run: Run, sample: dict[str, str]) -> str:
    """Why a data set is not taken; empty where it is."""
    imported = store.imported(run.manifest.dataset.fingerprint)
    some_users = store.find_users("", _USERS)
    if imported or (known is None and not some_users):
        return ""
    try:
        compared = _compared(store, run.dataset(), some_users)
    except StoreError:
        raise
    except SeqloomError:  # the data set is no longer there; its catalogue is in the run
        compared = (0, 0)
    same, comparable = compared
    if comparable and same >= _AGREES * comparable:
        return ""
    if comparable >= _FEWEST and same < _DIFFERS * comparable:
        return f"users of the same ids have other events ({same} of {comparable} compared agree)"
    if known is None:  # a store of an older seqloom
        items = {event.item_id for user in some_users for event in store.export(user)}
        if len(items) < _FEWEST:
            return ""
        return _other_items({_hash(item): "" for item in items}, sample, run.item_ids)
    return _other_items(known.items, sample, run.item_ids)


def _compared(store: Store, dataset: Dataset, some_users: Sequence[str]) -> tuple[int, int]:
    """Events of users of both that agree, and those that were compared."""
    step = max(1, dataset.num_users // _USERS)
    users = dict.fromkeys([*some_users, *dataset.user_ids[::step]])
    same = comparable = 0
    for user in users:
        number = dataset.user_numbers.get(user)
        kept = [] if number is None else store.export(user)
        if number is None or not kept:
            continue
        own = events_of(dataset, number, number + 1)
        each, of = _agreeing(kept, own)
        same, comparable = same + each, comparable + of
    return same, comparable


def _agreeing(kept: Sequence[Event], own: Sequence[Event]) -> tuple[int, int]:
    """Of two histories of one user id: events of both, and the most there could be.

    Where times are known, of the period that both histories cover.
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
    """Why two catalogues are not one; empty where they are."""
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
    speaking = {_hash(item) for item in item_ids if not item.isdecimal()}
    if sum(key in speaking for key in both) >= _AGREES * len(both):
        return ""
    return "nothing but plain numbers, which any shop may count, is in both"


def _sample(run: Run) -> dict[str, str]:
    """The items with the smallest hashes of their ids, each with the hash of its title."""
    marks = (
        (_hash(i), _hash(t) if t else "") for i, t in zip(run.item_ids, run.titles, strict=True)
    )
    return dict(heapq.nsmallest(_SAMPLE, marks))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
