"""Events of one user at the same time: which they are, and in which order they stand.

A log of events orders nothing within a tie; the order of the file does, and many files are sorted by item id.
Arrays are in time order: by user, then by time.
"""

from __future__ import annotations

import numpy as np

from seqloom.core.random import derive_seed

_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def joined_events(users: np.ndarray, times: np.ndarray | None) -> np.ndarray:
    """Returns whether each event has the user and the time of the event before it.

    Shapes: users [events], times [events] or None (nothing is joined) -> [events] bool.
    """
    joined = np.zeros(len(users), np.bool_)
    if times is not None:
        joined[1:] = (times[1:] == times[:-1]) & (users[1:] == users[:-1])
    return joined


def tied_events(joined: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Returns whether another item of the same user has the event's time, so that the file decides.

    Shapes: joined [events] bool (`joined_events`), items [events] -> [events] bool.
    """
    tied = np.zeros(len(joined), np.bool_)
    at = _inside(joined)
    if len(at) == 0:
        return tied
    begins = np.flatnonzero(~joined[at])
    own = items[at]
    differ = np.minimum.reduceat(own, begins) < np.maximum.reduceat(own, begins)
    tied[at] = np.repeat(differ, np.diff(begins, append=len(at)))
    return tied


def shuffled_positions(
    joined: np.ndarray, users: np.ndarray, items: np.ndarray, keys: TieKeys
) -> np.ndarray:
    """Returns the positions of the events in an order in which each tie is shuffled.

    The order within a tie depends on the seed and on the ids of the user and of the items alone, so it does
    not depend on the order of the file.

    Shapes: joined, users, items [events] -> [events] int64.
    """
    positions = np.arange(len(joined))
    at = _inside(joined)
    group = np.cumsum(~joined[at])
    order = np.lexsort((keys.of(users[at], items[at]), group))
    positions[at] = at[order]
    return positions


class TieKeys:
    """Random keys of (user, item) pairs, from hashes of both ids and a seed."""

    def __init__(self, users: np.ndarray, items: np.ndarray, seed: int) -> None:
        """Takes the hashes (`data.tie_keys`) of all users and of all items. Shapes: [U], [N] int64."""
        self._users = _mix(users.astype(np.uint64) ^ np.uint64(derive_seed(seed, "ties")))
        self._items = items.astype(np.uint64)

    def of(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns the keys of some events. Shapes: [M], [M] -> [M] uint64."""
        return _mix(self._users[users] ^ self._items[items])


def _inside(joined: np.ndarray) -> np.ndarray:
    """Returns the positions of the events that share their time with a neighbour."""
    inside = joined.copy()
    inside[:-1] |= joined[1:]
    return np.flatnonzero(inside)


def _mix(words: np.ndarray) -> np.ndarray:
    """Mixes the bits of each word. Source: the finaliser of SplitMix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        words = (words ^ (words >> np.uint64(30))) * _MULTIPLIERS[0]
        words = (words ^ (words >> np.uint64(27))) * _MULTIPLIERS[1]
    return words ^ (words >> np.uint64(31))
