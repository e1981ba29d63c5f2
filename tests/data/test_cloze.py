"""Masked rows: at least one item, never padding, at the requested rates."""

from __future__ import annotations

import torch

from seqloom.core.random import generator
from seqloom.data.batches import plan_epoch, training_rows
from seqloom.data.cloze import ClozePlan, choose_masked
from seqloom.data.sequences import PaddedBatch, Sequences


def rows_of(lengths: list[int]) -> PaddedBatch:
    return Sequences.from_lists([list(range(1, n + 1)) for n in lengths]).pad()


def test_every_row_has_a_mask_and_padding_has_none() -> None:
    rows = rows_of([2, 3, 9, 2] * 200)
    for probability in (1e-6, 0.3, 0.999):
        masked = choose_masked(rows, probability, 0.2, generator(0, str(probability)))
        assert masked.any(1).all()
        assert not (masked & ~rows.mask).any()


def test_the_rates_are_those_requested() -> None:
    rows = rows_of([30] * 4000)
    masked = choose_masked(rows, 0.4, 0.0, generator(1))
    assert abs(float(masked.float().mean()) - 0.4) < 0.01
    masked = choose_masked(rows, 0.4, 0.25, generator(2))
    last_alone = (masked.sum(1) == 1) & masked[:, -1]
    assert abs(float(last_alone.float().mean()) - 0.25) < 0.03


def test_last_probability_of_one_masks_the_last_item_alone() -> None:
    rows = rows_of([2, 5])
    masked = choose_masked(rows, 0.9, 1.0, generator(0))
    assert masked.tolist() == [[False, True, False, False, False], [False] * 4 + [True]]


def plan(epoch: int) -> ClozePlan:
    rows = training_rows(Sequences.from_lists([[3, 1, 4, 1], [5, 9], [2, 6, 5]]), 6, "windows")
    return ClozePlan(plan_epoch(rows, 2, 7, "train", epoch), 10, 0.5, 0.2, 7, epoch)


def test_inputs_and_targets_complete_each_other() -> None:
    steps = plan(0)
    assert len(steps) == 2
    for step in range(len(steps)):
        batch = steps[step]
        whole = steps.plan.rows.items.select(batch.rows).pad().items
        hidden = batch.inputs.items == 10
        assert torch.equal(torch.where(hidden, batch.targets, batch.inputs.items), whole)
        assert torch.equal(batch.targets > 0, hidden)
        assert batch.num_targets == int(hidden.sum())


def test_a_step_is_the_same_at_every_call_and_epochs_differ() -> None:
    assert torch.equal(plan(0)[1].targets, plan(0)[1].targets)
    drawn = {tuple(plan(epoch)[0].inputs.items.flatten().tolist()) for epoch in range(8)}
    assert len(drawn) > 1
