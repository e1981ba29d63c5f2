"""Batches of texts: each text once an epoch, in an order of its own."""

from __future__ import annotations

import torch

from seqloom.systems.tuned_text.batches import text_steps
from seqloom.systems.tuned_text.config import DistilledTuningConfig


def test_every_text_is_in_one_batch_of_an_epoch() -> None:
    config = DistilledTuningConfig(batch_size=8)
    lengths = torch.arange(100) % 11
    epochs = []
    for epoch in (0, 1, 0):
        steps = text_steps(lengths, config, epoch)
        epochs.append(torch.cat([steps[step].items for step in range(len(steps))]))
    assert sorted(epochs[0].tolist()) == list(range(1, 101))
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])


def test_a_batch_holds_texts_of_similar_lengths() -> None:
    config = DistilledTuningConfig(batch_size=8)
    lengths = torch.arange(128) % 32
    steps = text_steps(lengths, config, 0)
    assert len(steps) == 16
    for step in range(len(steps)):
        own = lengths[steps[step].items - 1]
        assert int(own.max() - own.min()) <= 2
