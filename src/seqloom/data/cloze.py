"""Training batches of the cloze task: some items of a history are masked, and the model predicts them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.core.random import generator
from seqloom.data.batches import EpochPlan, TrainingBatch
from seqloom.data.sequences import PaddedBatch


@dataclass(frozen=True)
class ClozePlan:
    """The batches of one epoch of the cloze task, each built on demand.

    A row masks either only its last item (with `last_probability`) or each item with
    `mask_probability`. Every row has at least one mask.

    Source: BERT4Rec (Sun et al., CIKM 2019), section 3.6.
    """

    plan: EpochPlan
    mask_item: int
    """The item number that stands for [MASK]."""
    mask_probability: float
    last_probability: float
    seed: int
    epoch: int

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> TrainingBatch:
        rows = self.plan.order[step]
        whole = self.plan.rows.pad(rows)
        draw = generator(self.seed, "mask", self.epoch, step)
        masked = choose_masked(whole, self.mask_probability, self.last_probability, draw)
        inputs = PaddedBatch(torch.where(masked, self.mask_item, whole.items), whole.lengths)
        targets = torch.where(masked, whole.items, 0)
        return TrainingBatch.of(inputs, targets, rows)


def choose_masked(
    rows: PaddedBatch, mask_probability: float, last_probability: float, draw: torch.Generator
) -> Tensor:
    """Draws the positions to mask: at least one real position in every row, never padding.

    Shapes: rows [B, L] -> [B, L] bool.
    """
    chance = torch.rand(rows.items.shape, generator=draw)
    # Padding gets 2, above every draw, so that the smallest draw of a row is at a real position. That
    # position is always masked, so that no row is without a target.
    chance = torch.where(rows.mask, chance, 2.0)
    masked = (chance < mask_probability) | (chance == chance.amin(1, keepdim=True))
    last_only = torch.rand(len(rows.lengths), 1, generator=draw) < last_probability
    places = torch.arange(rows.items.shape[1])
    is_last = places == rows.lengths[:, None] - 1
    return torch.where(last_only, is_last, masked)
