"""Items by how often training met them."""

from __future__ import annotations

from torch import Tensor


def popularity_scores(counts: Tensor) -> Tensor:
    """Training events as scores, the same for everybody.

    Equal counts are equal scores. A rank counts them against the target; a list breaks them by
    `data.tie_keys`, so neither depends on the order of the log.

    Shapes: counts [N] -> [N] float64.
    """
    return counts.double()
