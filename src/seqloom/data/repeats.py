"""Events that repeat an item of their user's history, and what follows for the ranking of seen items."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqloom.core.number_format import format_percent
from seqloom.data.options import MaskSeen

REPEATS_FROM = 0.05
"""Share of repeats in the training part from which seen items stay in the ranking.

Masking loses every repeated target and helps with the others, for which it frees places of the list. On
Office (validation, seed 42) SASRec, GRU4Rec and LLMInit gain .010 to .027 NDCG@10 on new targets by masking
and lose .93 on repeated ones, so both cost the same where 1 to 3 % of the targets are repeats. The share
falls from the training part to the targets there (7.9 %, 5.7 %, 2.8 %), hence the margin.
"""
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class RepeatTally:
    """Counts of the repeats of some users, which add up."""

    events: dict[str, int]
    """Events of each part that have a history."""
    gaps: dict[str, np.ndarray]
    """For each part [longest gap + 1] int64: repeats by the number of events since the item occurred last
    (1: it is the event before)."""

    @classmethod
    def of(
        cls,
        items: np.ndarray,
        offsets: np.ndarray,
        train_end: np.ndarray,
        valid: np.ndarray,
        test: np.ndarray,
    ) -> RepeatTally:
        """Counts the repeats of a split log (`data.split.Split`).

        Shapes: items [events], offsets [users + 1], the others [users].
        """
        users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        gaps = repeat_gaps(users, items)
        place = np.arange(len(items))
        with_history = place > offsets[:-1][users]
        members = {"train": (place < train_end[users]) & with_history}
        for part, at in (("valid", valid), ("test", test)):
            members[part] = np.zeros(len(items), np.bool_)
            members[part][at[at >= 0]] = True
            members[part] &= with_history
        return cls(
            {part: int(mask.sum()) for part, mask in members.items()},
            {
                part: np.bincount(gaps[mask & (gaps > 0)], minlength=1)
                for part, mask in members.items()
            },
        )

    @classmethod
    def sum(cls, tallies: Iterable[RepeatTally]) -> RepeatTally:
        """Adds the tallies of all parts of a log."""
        parts = list(tallies)
        gaps = {}
        for name in PARTS:
            gaps[name] = np.zeros(max(len(part.gaps[name]) for part in parts), np.int64)
            for part in parts:
                gaps[name][: len(part.gaps[name])] += part.gaps[name]
        return cls({name: sum(part.events[name] for part in parts) for name in PARTS}, gaps)

    def share(self, part: str) -> float:
        """Returns the share of repeats among the events of a part that have a history."""
        return int(self.gaps[part].sum()) / max(self.events[part], 1)

    def facts(self) -> dict[str, Any]:
        """Returns `events`, `repeats`, `share` and, where there are repeats, `steps` of each part.

        `steps` are quantiles of the number of events since the item occurred last.
        """
        return {
            part: {
                "events": self.events[part],
                "repeats": int(self.gaps[part].sum()),
                "share": round(self.share(part), 6),
                "steps": _quantiles(self.gaps[part]),
            }
            for part in PARTS
        }


def repeat_gaps(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Returns the number of events since the user had the item last, 0 where the item is new.

    Shapes: users (ascending), items [events] -> [events] int64.
    """
    key = users.astype(np.int64) * (int(items.max(initial=0)) + 1) + items
    order = np.argsort(key, kind="stable")
    again = key[order][1:] == key[order][:-1]
    gaps = np.zeros(len(items), np.int64)
    gaps[order[1:][again]] = (order[1:] - order[:-1])[again]
    return gaps


def masks_seen(choice: MaskSeen, training_share: float) -> bool:
    """Returns whether seen items are masked: as chosen, or by the share of repeats in the training part."""
    return training_share < REPEATS_FROM if choice == "auto" else choice == "yes"


def mask_reason(choice: str, masked: bool, training_share: float) -> str:
    """Describes the decision on seen items in a few words."""
    what = "left out of lists and ranking" if masked else "kept in lists and ranking"
    if choice != "auto":
        return f"{what} (mask_seen={choice})"
    return (
        f"{what} (auto: {format_percent(training_share)} of training events repeat, limit "
        f"{format_percent(REPEATS_FROM, 0)})"
    )


def _quantiles(histogram: np.ndarray) -> dict[str, int] | None:
    """Returns quantiles of values that occur `histogram[value]` times; None without values."""
    upto = histogram.cumsum()
    if not len(upto) or not upto[-1]:
        return None
    shares = {"p25": 0.25, "median": 0.5, "p75": 0.75, "p90": 0.9}
    return {
        name: int(np.searchsorted(upto, max(1, np.ceil(share * upto[-1]))))
        for name, share in shares.items()
    }
