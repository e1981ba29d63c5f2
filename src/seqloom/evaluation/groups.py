"""Groups of users by training counts: tail and head, and bins of equal size.

All groups are defined by counts in the training part: the events of an item or of a user. A count
threshold separates tail from head, so equal counts are always in the same group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqloom.core.config import Config
from seqloom.data.store import Dataset
from seqloom.data.thresholds import HEAD_SHARE, head_threshold
from seqloom.evaluation.metrics import RANK_METRICS, rank_metrics

GROUPS = ("tail_item", "head_item", "tail_user", "head_user")
COLD_GROUPS = ("cold_item", "warm_item")
"""Additional groups of a data set with cold items."""
KNOWN_USER = "known_user"
HISTORY_GROUPS = ("new_user", KNOWN_USER)
"""Additional groups of a data set with new users, who have no event before the target. Every system
recommends the same popular items to them, so systems can differ only in the known ones."""

NEW_TARGET = "new_target"
REPEAT_TARGET = "repeat_target"
REPEAT_GROUPS = (REPEAT_TARGET, NEW_TARGET)
"""Additional groups where a target is an item of the user's own history: those users, and the others. With
seen items masked no list can contain such a target, so systems can differ only in the new ones."""

TIED_TARGET = "tied_target"
UNTIED_TARGET = "untied_target"
TIE_GROUPS = (TIED_TARGET, UNTIED_TARGET)
"""Additional groups where a target has the time of another item of its user, so that something other than
time decided which item is the target: those users, and the others."""

FURTHER_GROUPS = (*HISTORY_GROUPS, *REPEAT_GROUPS, *TIE_GROUPS)


class GroupThresholds(Config):
    """Smallest training counts that are head; lower counts are tail."""

    item: int
    """Training events that make an item head (LLM-ESR's code: Beauty 4, Fashion 4, Yelp 13)."""
    user: int
    """Training events that make a user head (LLM-ESR's code: Beauty 9, Fashion 3, Yelp 12)."""


def default_thresholds(dataset: Dataset, head_share: float = HEAD_SHARE) -> GroupThresholds:
    """Returns the thresholds of the data set's warm items and users."""
    lengths = dataset.train.lengths
    if dataset.has_cold_users:
        lengths = lengths[lengths > 0]
    return GroupThresholds(
        item=head_threshold(dataset.warm.popularity[1:], head_share),
        user=head_threshold(lengths, head_share),
    )


def group_members(
    target_counts: Tensor, training_lengths: Tensor, thresholds: GroupThresholds
) -> dict[str, Tensor]:
    """Returns the mask of each group; an item group contains the users whose target is such an item.

    Shapes: target_counts, training_lengths [R] int64 -> four masks [R] bool, ordered as GROUPS.
    """
    head_item = target_counts >= thresholds.item
    head_user = training_lengths >= thresholds.user
    return dict(zip(GROUPS, (~head_item, head_item, ~head_user, head_user), strict=True))


def group_metrics(
    ranks: Tensor, members: Mapping[str, Tensor], names: Sequence[str] = RANK_METRICS
) -> dict[str, dict[str, Any]]:
    """Returns `users` (their number) and `metrics` of each group (None where the group has no users).

    Shapes: ranks [R] int64, each mask [R] bool.
    """
    return {group: _summary(ranks[mask], names) for group, mask in members.items()}


@dataclass(frozen=True)
class Bin:
    """Users whose value is in [low, high], both included."""

    low: int
    high: int
    mask: Tensor
    """[R] bool."""


def equal_bins(values: Tensor, count: int = 5) -> list[Bin]:
    """Splits the evaluated users into `count` ascending bins, as equal in size as ties allow.

    Equal values share a bin; there are fewer bins only if there are fewer distinct values. From the lowest
    value up, each bin ends where its size is closest to an equal share of the remaining users.

    Source: LLM-ESR (arXiv 2405.20646), figures of five user and five item groups.
    Differs: the paper does not define its bins; with equally many users in each, the bars are equally
    certain.

    Shapes: values [R] int64.
    """
    if not len(values):
        return []
    distinct, frequency = torch.unique(values, return_counts=True)
    ends = frequency.cumsum(0)
    first, last, done = [0], [], 0
    for left in range(min(count, len(distinct)), 1, -1):
        # The number of users up to the end of this bin if the remaining ones were divided equally.
        ideal = done + (len(values) - done) / left
        # At least one distinct value for this bin and for each bin after it.
        allowed = ends[first[-1] : len(distinct) - left + 1].double()
        last.append(first[-1] + int((allowed - ideal).abs().argmin()))
        done = int(ends[last[-1]])
        first.append(last[-1] + 1)
    last.append(len(distinct) - 1)
    edges = [(int(distinct[a]), int(distinct[b])) for a, b in zip(first, last, strict=True)]
    return [Bin(low, high, (values >= low) & (values <= high)) for low, high in edges]


def bin_metrics(
    ranks: Tensor, values: Tensor, count: int = 5, names: Sequence[str] = RANK_METRICS
) -> list[dict[str, Any]]:
    """Returns each bin of `values` as `low`, `high` (included), `users` and `metrics`.

    Shapes: ranks, values [R] int64.
    """
    return [
        {"low": b.low, "high": b.high, **_summary(ranks[b.mask], names)}
        for b in equal_bins(values, count)
    ]


def _summary(ranks: Tensor, names: Sequence[str]) -> dict[str, Any]:
    return {"users": len(ranks), "metrics": rank_metrics(ranks, names) if len(ranks) else None}
