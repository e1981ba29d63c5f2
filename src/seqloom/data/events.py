"""The interactions of a prepared data set as flat arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seqloom.core.errors import ArtefactError

EVENT_ARRAYS = ("items", "offsets", "train_end", "valid", "test", "timestamps", "joined")
_TYPES = {"items": torch.int32, "joined": torch.bool}


@dataclass(frozen=True)
class Events:
    """All interactions by user, oldest first, and the split of each user.

    `train_end[u]` is the position after user u's last training event; `valid[u]` and `test[u]` are
    the positions of the held-out events, or -1. The history of a held-out event is all events of that
    user before it. Positions are indices into the flat arrays.
    """

    items: Tensor
    """[events] int32, item numbers 1..N."""
    offsets: Tensor
    """[users + 1] int64: user u owns items[offsets[u]:offsets[u + 1]]."""
    train_end: Tensor
    """[users] int64."""
    valid: Tensor
    """[users] int64, -1 where the user has no validation event."""
    test: Tensor
    """[users] int64, -1 where the user has no test event."""
    timestamps: Tensor | None = None
    """[events] int64, seconds since 1970, or None where only the order is known."""
    joined: Tensor | None = None
    """[events] bool, whether the event has the time of the event before it; None where `timestamps` tell."""

    @property
    def joins(self) -> Tensor | None:
        """[events] bool, the same for all events with times; None where times are not known."""
        if self.joined is not None or self.timestamps is None:
            return self.joined
        joins = torch.zeros(len(self.items), dtype=torch.bool)
        joins[1:] = self.timestamps[1:] == self.timestamps[:-1]
        starts = self.offsets[:-1]
        joins[starts[starts < len(joins)]] = False
        return joins

    def tensors(self) -> dict[str, Tensor]:
        """Returns the arrays by name, as they are stored."""
        named = {k: getattr(self, k) for k in ("items", "offsets", "train_end", "valid", "test")}
        if self.timestamps is not None:
            named["timestamps"] = self.timestamps
        if self.joined is not None:
            named["joined"] = self.joined
        return {name: tensor.contiguous() for name, tensor in named.items()}


def check_events(events: Events, num_items: int, path: Path, remedy: str) -> None:
    """Checks types, lengths and ranges: item numbers are 1..N, positions lie within their user's events.

    Raises:
        ArtefactError: an array is invalid; the message names `path`, the array, the fault and `remedy`.
    """
    for name, what in _faults(events, num_items):
        raise ArtefactError(f"{path}: the array {name!r} {what}; the data set is damaged: {remedy}")


def _faults(events: Events, num_items: int) -> Iterator[tuple[str, str]]:
    """Yields the faults of the arrays in order: a check assumes that the earlier ones passed."""
    for name, tensor in events.tensors().items():
        kind = _TYPES.get(name, torch.int64)
        if tensor.dtype != kind or tensor.ndim != 1:
            yield name, f"is {tensor.dtype} of {tensor.ndim} dimensions, not a vector of {kind}"
    items, offsets = events.items, events.offsets
    if len(items) and not 1 <= int(items.min()) <= int(items.max()) <= num_items:
        yield "items", f"holds {int(items.min())} to {int(items.max())}, not 1 to {num_items}"
    ends = offsets[[0, -1]].tolist() if len(offsets) else []
    if ends != [0, len(items)] or bool((offsets[1:] < offsets[:-1]).any()):
        yield "offsets", f"does not rise from 0 to {len(items)}, the number of events"
    for name, array in (("timestamps", events.timestamps), ("joined", events.joined)):
        if array is not None and len(array) != len(items):
            yield name, f"has {len(array)} entries, not one for each event"
    first, after = offsets[:-1], offsets[1:]
    for name, at in (
        ("train_end", events.train_end),
        ("valid", events.valid),
        ("test", events.test),
    ):
        if len(at) != len(first):
            yield name, f"has {len(at)} entries, not one for each of {len(first)} users"
        elif name == "train_end":
            if bool(((at < first) | (at > after)).any()):
                yield name, "has a position outside its user's events"
        elif bool(((at != -1) & ((at < first) | (at >= after))).any()):
            yield name, "has a position outside its user's events"


def without_items(events: Events, removed: Tensor) -> Events:
    """Removes the events in `removed`; users whose held-out event is removed lose that target.

    Shapes: removed [events] bool.
    """
    place = torch.cat([torch.zeros(1, dtype=torch.int64), (~removed).long().cumsum(0)])

    def move(at: Tensor) -> Tensor:
        there = (at >= 0) & ~removed[at.clamp(min=0)]
        return torch.where(there, place[at.clamp(min=0)], -1)

    times = events.timestamps
    joined = None
    if events.joined is not None:
        # The first event of a tie may be removed, and then the next one is not joined.
        tie = (~events.joined).long().cumsum(0)[~removed]
        joined = torch.cat([tie.new_zeros(1, dtype=torch.bool)[: len(tie)], tie[1:] == tie[:-1]])
    return Events(
        items=events.items[~removed],
        offsets=place[events.offsets],
        train_end=place[events.train_end],
        valid=move(events.valid),
        test=move(events.test),
        timestamps=None if times is None else times[~removed],
        joined=joined,
    )
