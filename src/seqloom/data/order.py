"""Whether sequences are in the order of time: counts that show an order by item id.

All functions are pure and take arrays. Counts add up over groups of users, so a large log is counted in
parts. Items have codes 0..N-1; `id_ranks` says how their ids are sorted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.special import gammaln
from scipy.stats import spearmanr

from seqloom.data.codes import are_integers

SHORTEST = 3
"""Length from which a sequence is judged: shorter ones are sorted by chance too often."""
NEVER = np.iinfo(np.int64).max
"""The time of first appearance of an item without events."""
_NUMBERED = r"^(\D*)(\d+)$"
_COUNTS = ("ascending", "descending", "steps", "steps_up", "last_steps", "last_steps_up")


def id_ranks(ids: pl.Series) -> dict[str, np.ndarray]:
    """Returns the place of each id among the sorted ids, as `text` and, if possible, as `integer`.

    Ids are also read as integers if all are integers, perhaps behind one and the same word (`item12`).

    Shapes: ids [N] strings -> [N] int64 each.
    """
    ranks = {"text": _places(ids)}
    digits = ids
    if len(ids) and not are_integers(ids) and ids.str.extract(_NUMBERED, 1).n_unique() == 1:
        digits = ids.str.extract(_NUMBERED, 2)
    numbers = digits.cast(pl.Int64, strict=False)
    if len(ids) and not numbers.null_count():
        ranks["integer"] = _places(numbers)
    return ranks


def _places(values: pl.Series) -> np.ndarray:
    places = np.empty(len(values), np.int64)
    places[values.arg_sort().to_numpy()] = np.arange(len(values))
    return places


@dataclass(frozen=True)
class OrderTally:
    """Counts of the order of some users' sequences, which add up."""

    sequences: int
    """Sequences of `SHORTEST` events or more."""
    chance: float
    """How many of them would be in ascending order if each were shuffled: the sum over sequences of
    the product of m! over items (occurring m times), divided by n! (1/n! where no item repeats)."""
    counts: dict[str, dict[str, int]]
    """By the reading of the ids (`text`, `integer`): sequences that are `ascending` and `descending`; `steps`
    between different items that follow each other, and `steps_up` to a higher id; the same of each
    sequence's `last_steps`."""
    first: np.ndarray | None
    """[N] int64: time of each item's first event (`NEVER` without one); None where times are unknown."""

    @classmethod
    def of(
        cls,
        items: np.ndarray,
        offsets: np.ndarray,
        ranks: Mapping[str, np.ndarray],
        times: np.ndarray | None = None,
    ) -> OrderTally:
        """Counts sequences. Shapes: items and times [events], offsets [users + 1], ranks [N] each."""
        lengths = np.diff(offsets)
        users = np.repeat(np.arange(len(lengths)), lengths)
        judged = lengths >= SHORTEST
        first = None
        if times is not None:
            first = np.full(len(next(iter(ranks.values()))), NEVER)
            np.minimum.at(first, items, times)
        return cls(
            sequences=int(judged.sum()),
            chance=float(_chances(users, items, lengths)[judged].sum()),
            counts={
                name: _count(rank[items], users, offsets, judged) for name, rank in ranks.items()
            },
            first=first,
        )

    @classmethod
    def sum(cls, tallies: Iterable[OrderTally]) -> OrderTally:
        """Adds the tallies of all parts of a log."""
        parts = list(tallies)
        first = [part.first for part in parts if part.first is not None]
        return cls(
            sequences=sum(part.sequences for part in parts),
            chance=sum(part.chance for part in parts),
            counts={
                name: {key: sum(part.counts[name][key] for part in parts) for key in _COUNTS}
                for name in parts[0].counts
            },
            first=np.minimum.reduce(first) if first else None,
        )

    def facts(self, ranks: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Returns shares, and the rank correlation of id and first appearance, for a manifest.

        Without times, items first appear in the order of their codes.
        """
        number = max(self.sequences, 1)
        by = {}
        for name, count in self.counts.items():
            by[name] = {
                "ascending": round(count["ascending"] / number, 6),
                "descending": round(count["descending"] / number, 6),
                "steps_up": _share(count["steps_up"], count["steps"]),
                "last_steps_up": _share(count["last_steps_up"], count["last_steps"]),
                "first_appearance": appearance_correlation(ranks[name], self.first),
            }
        return {
            "sequences": self.sequences,
            "last_steps": next(iter(self.counts.values()))["last_steps"],
            "sorted_by_chance": round(self.chance / number, 6),
            "appearance": "file" if self.first is None else "time",
            "ids": by,
        }


def appearance_correlation(rank: np.ndarray, first: np.ndarray | None) -> float | None:
    """Returns Spearman's rank correlation of id and first appearance; None for fewer than three items.

    Shapes: rank [N], first [N] or None (the order of the codes).
    """
    at = np.arange(len(rank)) if first is None else first
    seen = at != NEVER
    if int(seen.sum()) < SHORTEST or len(np.unique(at[seen])) == 1:
        return None
    return round(float(spearmanr(rank[seen], at[seen]).statistic), 4)


def training_after_test(
    times: np.ndarray, in_training: np.ndarray, users: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Returns the share of other users' training events that are later than each user's test event.

    Shapes: times, in_training (bool), users [events], test [targets] positions -> [targets] float64.
    """
    train = np.sort(times[in_training])
    later = len(train) - np.searchsorted(train, times[test], side="right")
    # A user's own training events come before the test event, so none of them is among the later ones.
    own = np.bincount(users[in_training], minlength=int(users.max(initial=-1)) + 1)[users[test]]
    return np.asarray(later / np.maximum(len(train) - own, 1))


def _count(
    ranks: np.ndarray, users: np.ndarray, offsets: np.ndarray, judged: np.ndarray
) -> dict[str, int]:
    """Counts sorted sequences and ascending steps. Shapes: ranks, users [events], judged [users]."""
    inside = users[1:] == users[:-1]
    up, down = (inside & (ranks[1:] > ranks[:-1]), inside & (ranks[1:] < ranks[:-1]))
    num_users = len(judged)
    falls, rises = (np.bincount(users[1:][step], minlength=num_users) for step in (down, up))
    last = offsets[1:][np.diff(offsets) >= 2] - 2  # the step to each user's last event
    return {
        "ascending": int((judged & (falls == 0)).sum()),
        "descending": int((judged & (rises == 0)).sum()),
        "steps": int(up.sum() + down.sum()),
        "steps_up": int(up.sum()),
        "last_steps": int((up | down)[last].sum()),
        "last_steps_up": int(up[last].sum()),
    }


def _chances(users: np.ndarray, items: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns the probability that each sequence, shuffled, is ascending. Shapes: -> [users] float64."""
    key = users.astype(np.int64) * (int(items.max(initial=0)) + 1) + items
    keys, times = np.unique(key, return_counts=True)
    owner = keys // (int(items.max(initial=0)) + 1)
    orders = np.bincount(owner, weights=gammaln(times + 1), minlength=len(lengths))
    return np.asarray(np.exp(orders - gammaln(lengths + 1)))


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None
