"""The batches that tune a text encoder: histories of the training part, and texts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.core.phase import Steps
from seqloom.core.random import generator
from seqloom.data.batches import EpochPlan, TrainingBatch, TrainingRows, plan_epoch, training_rows
from seqloom.systems.base import TrainingData
from seqloom.systems.tuned_text.config import (
    AnyTuningConfig,
    DistilledTuningConfig,
    StaticTuningConfig,
    TransformerTuningConfig,
)

STATIC_PHASE, TRANSFORMER_PHASE, TABLE_PHASE, DISTIL_PHASE = "train", "tune", "table", "distil"
"""Names of the phases, which key the order of their batches."""
_BLOCK = 16
"""Batches of texts that are sorted by length together, so that their texts differ with each epoch."""


@dataclass(frozen=True)
class FirstSteps:
    """The first steps of a plan."""

    plan: EpochPlan
    limit: int | None

    def __len__(self) -> int:
        return min(len(self.plan), self.limit or len(self.plan))

    def __getitem__(self, step: int) -> TrainingBatch:
        return self.plan[step]


@dataclass(frozen=True)
class TextBatch:
    """Items whose texts a language model learns from."""

    items: Tensor
    """[B] int64, item numbers."""

    def __len__(self) -> int:
        return len(self.items)

    @property
    def num_targets(self) -> int:
        """Each text has one target, its item's row in the table."""
        return len(self.items)


@dataclass(frozen=True)
class TextPlan:
    """The batches of texts of one epoch."""

    order: tuple[Tensor, ...]
    """Item numbers of each batch."""

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, step: int) -> TextBatch:
        return TextBatch(self.order[step])


def contrastive_steps(rows: TrainingRows, config: TransformerTuningConfig, epoch: int) -> Steps:
    """Returns the batches of an epoch of a language model."""
    plan = plan_epoch(rows, config.batch_size, config.seed, TRANSFORMER_PHASE, epoch)
    return FirstSteps(plan, config.steps_per_epoch)


def table_steps(rows: TrainingRows, config: DistilledTuningConfig, epoch: int) -> Steps:
    """Returns the batches of an epoch of the table."""
    return plan_epoch(rows, config.table.batch_size, config.seed, TABLE_PHASE, epoch)


def text_steps(lengths: Tensor, config: DistilledTuningConfig, epoch: int) -> Steps:
    """Returns the batches of texts of an epoch, each of similar lengths, in an order drawn at random.

    Shapes: lengths [N] tokens of each item's text.
    """
    draw = generator(config.seed, "batches", DISTIL_PHASE, epoch)
    shuffled = torch.randperm(len(lengths), generator=draw)
    blocks = [
        block[lengths[block].argsort(stable=True)]
        for block in shuffled.split(_BLOCK * config.batch_size)
    ]
    batches = torch.cat(blocks).split(config.batch_size)
    places = torch.randperm(len(batches), generator=draw).tolist()
    return TextPlan(tuple(batches[place] + 1 for place in places))


def first_batches(config: AnyTuningConfig, data: TrainingData) -> Steps:
    """Returns the batches of histories of the first epoch without the model.

    Raises:
        ConfigError: there are no targets.
    """
    rows = training_rows(data.dataset.train, config.max_len, "windows")
    if isinstance(config, TransformerTuningConfig):
        return contrastive_steps(rows, config, 0)
    if isinstance(config, DistilledTuningConfig):
        return table_steps(rows, config, 0)
    assert isinstance(config, StaticTuningConfig)
    return plan_epoch(rows, config.batch_size, config.seed, STATIC_PHASE, 0)
