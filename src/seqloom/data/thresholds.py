"""Divides a long-tailed distribution of counts into head and tail."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.core.errors import DataError

HEAD_SHARE = 0.2


def head_threshold(counts: Tensor, head_share: float = HEAD_SHARE) -> int:
    """Returns the threshold t whose share of `counts >= t` is closest to `head_share`.

    Head and tail are both non-empty; of two equally close thresholds the higher one is chosen. If all
    counts are equal, the threshold is one above them, and all belong to the tail.

    Source: LLM-ESR (arXiv 2405.20646), section 4.1: the 80/20 rule.
    Differs: the paper divides at a quantile and its code at hand-set counts; a count threshold never
    separates equal counts, and counts come only from the training part.

    Raises:
        DataError: `counts` is empty.

    Shapes: counts [rows] int64.
    """
    if not len(counts):
        raise DataError("there are no counts to divide into tail and head")
    values, frequency = torch.unique(counts, return_counts=True)  # ascending
    if len(values) == 1:
        return int(values[0]) + 1
    share = frequency.flip(0).cumsum(0).flip(0).double() / len(counts)  # of counts >= value
    distance = (
        (share[1:] - head_share).abs().round(decimals=12)
    )  # 0.3 and 0.1 are equally far from 0.2
    distance = distance.flip(0)  # the highest threshold first, so that argmin chooses it in a tie
    return int(values[1:].flip(0)[distance.argmin()])
