"""Scores items by their number of training events."""

from __future__ import annotations

from torch import Tensor


def popularity_scores(counts: Tensor) -> Tensor:
    """Returns the training events of each item as scores, the same for every user.

    Items with equal counts have equal scores. Ranks count such ties against the target; lists break
    them by `data.tie_keys`, so neither depends on the order of the log.

    Shapes: counts [N] -> [N] float64.
    """
    return counts.double()
