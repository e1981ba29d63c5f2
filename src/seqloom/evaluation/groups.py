"""Tail and head groups, and bins, of users by what the training part knows of them.

Everything is defined by counts in the training part: an item's events, a user's events. A group is
cut by a count threshold, so that equal counts always fall on the same side.
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
"""Further groups of a data set with cold items."""
KNOWN_USER = "known_user"
HISTORY_GROUPS = ("new_user", KNOWN_USER)
"""Further groups where there are new users, who have no event before the target. They are given what is
popular, by every system alike, so systems differ in the known ones alone."""

NEW_TARGET = "new_target"
REPEAT_TARGET = "repeat_target"
REPEAT_GROUPS = (REPEAT_TARGET, NEW_TARGET)
"""Further groups where a target is an item of the user's own history: those users, and the others. With
seen items masked no list can hold such a target, so systems differ in the new ones alone."""


class GroupThresholds(Config):
    """Where head begins: a training count below the threshold is tail, the rest is head."""

    item: int
    """Training events that make an item head (LLM-ESR's code: Beauty 4, Fashion 4, Yelp 13)."""
    user: int
    """Training events that make a user head (LLM-ESR's code: Beauty 9, Fashion 3, Yelp 12)."""


def default_thresholds(dataset: Dataset, head_share: float = HEAD_SHARE) -> GroupThresholds:
    """Thresholds over the items of the catalogue and the users of the data set that are not cold."""
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
    """Who belongs to which group: an item group holds the users whose target is such an item.

    Shapes: target_counts, training_lengths [R] int64 -> four masks [R] bool, ordered as GROUPS.
    """
    head_item = target_counts >= thresholds.item
    head_user = training_lengths >= thresholds.user
    return dict(zip(GROUPS, (~head_item, head_item, ~head_user, head_user), strict=True))


def group_metrics(
    ranks: Tensor, members: Mapping[str, Tensor], names: Sequence[str] = RANK_METRICS
) -> dict[str, dict[str, Any]]:
    """For each group, `users` (their number) and `metrics` (None where the group has no users).

    Shapes: ranks [R] int64, each mask [R] bool.
    """
    return {group: _summary(ranks[mask], names) for group, mask in members.items()}


@dataclass(frozen=True)
class Bin:
    """Users whose value lies in [low, high], both ends included."""

    low: int
    high: int
    mask: Tensor
    """[R] bool."""


def equal_bins(values: Tensor, count: int = 5) -> list[Bin]:
    """Cut the evaluated users into `count` bins as equal in size as ties allow, rising.

    Equal values stay together; there are fewer bins only where there are fewer distinct values.
    From the lowest up, each bin ends where it is closest to an equal share of what is left.

    Source: LLM-ESR (arXiv 2405.20646), figures of five user and five item groups.
    Differs: the paper does not say how it cuts; bins of equally many users make the bars equally
    certain.

    Shapes: values [R] int64.
    """
    if not len(values):
        return []
    distinct, frequency = torch.unique(values, return_counts=True)
    ends = frequency.cumsum(0)
    first, last, done = [0], [], 0
    for left in range(min(count, len(distinct)), 1, -1):
        wanted = done + (len(values) - done) / left
        # At least one value for this bin, and one for each of those that follow.
        allowed = ends[first[-1] : len(distinct) - left + 1].double()
        last.append(first[-1] + int((allowed - wanted).abs().argmin()))
        done = int(ends[last[-1]])
        first.append(last[-1] + 1)
    last.append(len(distinct) - 1)
    edges = [(int(distinct[a]), int(distinct[b])) for a, b in zip(first, last, strict=True)]
    return [Bin(low, high, (values >= low) & (values <= high)) for low, high in edges]


def bin_metrics(
    ranks: Tensor, values: Tensor, count: int = 5, names: Sequence[str] = RANK_METRICS
) -> list[dict[str, Any]]:
    """Metrics of each bin of `values`: `low`, `high` (included), `users`, `metrics`.

    Shapes: ranks, values [R] int64.
    """
    return [
        {"low": b.low, "high": b.high, **_summary(ranks[b.mask], names)}
        for b in equal_bins(values, count)
    ]


def _summary(ranks: Tensor, names: Sequence[str]) -> dict[str, Any]:
    return {"users": len(ranks), "metrics": rank_metrics(ranks, names) if len(ranks) else None}
