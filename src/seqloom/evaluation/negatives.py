"""Samples the negatives of the sampled protocol: the same few un-interacted items for every system.

Sampled metrics are not consistent with full ones (Krichene and Rendle 2020): use them only to
compare with papers that report them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqloom.core.errors import ConfigError, DataError
from seqloom.core.random import derive_seed
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset
from seqloom.data.tie_keys import tie_keys

NEGATIVES = 100
_ROWS = 16_384  # bounds the [rows, count] work arrays

_Ints = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint64]


def sample_negatives(
    dataset: Dataset, users: Tensor, count: int = NEGATIVES, seed: int = 0
) -> Tensor:
    """Draws `count` distinct items uniformly from those that the user has in no part, for each user.

    A user's items depend only on (seed, ids of the user and of the catalogue, count): not on the other
    users, the order of the log or the system. Each row is ascending; a user with fewer un-interacted items
    gets all of them, then zeros (`count_users_with_fewer` counts such users).

    Source: LLM-ESR (arXiv 2405.20646), section 4.1: 100 sampled un-interacted items.
    Differs: the authors draw again at each evaluation; here the draw is fixed. Floyd's algorithm (Bentley
    and Floyd 1987) draws positions in the list of un-interacted items, so nothing is rejected and the cost
    does not depend on the length of the history. The random numbers come from a counter-based hash
    (SplitMix64), which needs no state per user; its remainder modulo N is biased by less than N / 2^64.

    Raises:
        ConfigError: `count` is below 1.
        DataError: a user number is not in 0..U-1.

    Shapes: users [R] int64 -> [R, count] int64, item numbers 1..N, 0 where padded.
    """
    if count < 1:
        raise ConfigError(f"the number of negatives is {count}; it must be at least 1")
    if len(users) and not 0 <= int(users.min()) <= int(users.max()) < dataset.num_users:
        raise DataError(f"user numbers must be in 0..{dataset.num_users - 1}")
    events = dataset.events
    by_key = dataset.tie_keys.argsort()  # an order that does not depend on item numbers
    place = torch.empty_like(by_key)
    place[by_key] = torch.arange(len(by_key))
    items = (place[events.items.long() - 1] + 1).int()
    everything = Sequences(items, events.offsets[:-1], events.offsets[1:])
    key = np.uint64(derive_seed(seed, "negatives"))
    numbers = np.concatenate([[0], by_key.numpy() + 1])
    rows = []
    for part in users.split(_ROWS):
        names = tie_keys([dataset.user_ids[user] for user in part.tolist()]).numpy()
        places = _sample(everything.select(part), names, dataset.num_items, count, key)
        rows.append(_rising(numbers[places]))
    return torch.from_numpy(np.concatenate(rows)) if rows else users.new_zeros((0, count))


def count_users_with_fewer(negatives: Tensor) -> int:
    """Counts the users with fewer un-interacted items than were requested.

    Shapes: negatives [R, count] int64.
    """
    return int((negatives == 0).any(1).sum())


def _rising(items: _Ints) -> _Ints:
    """Sorts each row, with zeros at its end. Shapes: [R, count] -> [R, count]."""
    last = np.iinfo(np.int64).max
    ordered = np.sort(np.where(items > 0, items, last), axis=1)
    return np.where(ordered < last, ordered, 0)


def _sample(seen: Sequences, users: _Ints, num_items: int, count: int, key: np.uint64) -> _Ints:
    """Draws items outside `seen` for each row. Shapes: seen has R rows, users [R] keys -> [R, count]."""
    rows, items = (tensor.numpy() for tensor in seen.flat())
    stride = num_items + 1
    distinct = np.unique(rows * stride + items)
    row, item = distinct // stride, distinct % stride
    sizes = np.bincount(row, minlength=len(users))
    starts = np.cumsum(sizes) - sizes
    # The number of free items before each seen one is ascending within a row, so one search over the
    # keys (row, number) counts the seen items before the k-th free one.
    free_before = item - 1 - (np.arange(len(item)) - starts[row])
    places = _floyd(users, num_items - sizes, count, key)
    line = np.arange(len(users))[:, None]
    before = np.searchsorted(row * stride + free_before, line * stride + places, side="right")
    # The k-th free item (from 0) has k free and `before - start` seen items below it; items count from 1.
    return np.where(places < 0, 0, places + 1 + before - starts[:, None])


def _floyd(users: _Ints, sizes: _Ints, count: int, key: np.uint64) -> _Ints:
    """Draws `count` distinct numbers from 0..size-1 for each row; -1 where a row has fewer.

    Shapes: users (their keys), sizes [R] -> [R, count].
    """
    chosen = np.full((len(users), count), -1, dtype=np.int64)
    stream = _mix(_mix(users.astype(np.uint64) + np.uint64(1)) ^ key)
    # Floyd: for top = size - count, ..., size - 1, draw from 0..top and take `top` itself if the number was
    # drawn before. Every subset of `count` numbers is equally likely, with one draw per step.
    for step in range(count):
        top = sizes - count + step
        active = top >= 0
        bound = np.where(active, top + 1, 1).astype(np.uint64)
        drawn = (_mix(stream + np.uint64(step)) % bound).astype(np.int64)
        taken = (chosen[:, :step] == drawn[:, None]).any(1)
        chosen[:, step] = np.where(active, np.where(taken, top, drawn), -1)
    return chosen


def _mix(words: _Words) -> _Words:
    """SplitMix64's output function over whole arrays (Steele, Lea and Flood 2014), modulo 2^64."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
