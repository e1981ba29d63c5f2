"""Ranks of items among those that a model can recommend."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqloom.core.protocols import ListScorer, VectorScorer
from seqloom.data.sequences import Sequences
from seqloom.inference.ranker import steer
from seqloom.serving.engine.catalogue import Snapshot


def rank_in(scores: Tensor, number: int, keys: Tensor | None = None) -> int | None:
    """Returns the rank of an item by its score; None where the item is hidden (minus infinity).

    Equal scores are ordered by the lower key, as in lists.

    Shapes: scores [N], keys [N].
    """
    score = scores[number - 1]
    if score == -torch.inf:
        return None
    above = int((scores > score).sum())
    if keys is not None:
        above += int(((scores == score) & (keys < keys[number - 1])).sum())
    return 1 + above


def ranks_among(
    snapshot: Snapshot,
    history: Sequence[int],
    hidden: Sequence[int],
    numbers: Sequence[int],
    steering: Tensor | None = None,
) -> tuple[list[int | None], int | None]:
    """Returns the ranks of `numbers` after one history, and how many items can be recommended.

    All ranks are None, and so is the count, for a model that searches its lists without scoring the
    whole catalogue.

    Shapes: steering [N].
    """
    ranker = snapshot.ranker
    scorer = ranker.scorer
    if history and isinstance(scorer, ListScorer) and not isinstance(scorer, VectorScorer):
        return [None] * len(numbers), None
    scores = ranker.score(Sequences.from_lists([history]))
    scores = scores.clone() if steering is None else steer(scores, steering[None])
    row = ranker.hide(scores, Sequences.from_lists([hidden]))[0]
    keys = None if ranker.keys is None else ranker.keys.to(row.device)
    return [rank_in(row, each, keys) for each in numbers], int((row > -torch.inf).sum())
