"""Full ranking as one would write it down: float64, one user at a time. What the fast one must equal."""

from __future__ import annotations

import copy
from typing import Any

import torch

from seqloom.data.store import HeldOut
from seqloom.evaluation.metrics import MISSED


@torch.inference_mode()
def naive_ranks(system: Any, held_out: HeldOut, rows: list[int]) -> list[int]:
    """Ranks of the targets of some rows: 1 and every unseen item that scores at least as high. A target of
    the history is masked like the rest of it."""
    slow = copy.deepcopy(system).double().eval()
    vectors = slow.item_vectors()  # [N, D]
    ranks = []
    for row in rows:
        history = held_out.histories.select(torch.tensor([row]))
        batch = history.pad(slow.max_len)
        scores = (slow.queries(batch.items, batch.lengths, vectors) @ vectors.t())[0]
        target = int(held_out.targets[row])
        seen = set(history.flat()[1].tolist())
        if target in seen:
            ranks.append(MISSED)
            continue
        truth = float(scores[target - 1])
        rivals = (
            score
            for item, score in enumerate(scores.tolist(), start=1)
            if item != target and item not in seen
        )
        ranks.append(1 + sum(score >= truth for score in rivals))
    return ranks
