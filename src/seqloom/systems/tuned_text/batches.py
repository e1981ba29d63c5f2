"""The batches of histories that tune a text encoder."""

from __future__ import annotations

from dataclasses import dataclass

from seqloom.core.phase import Steps
from seqloom.data.batches import EpochPlan, TrainingBatch, TrainingRows, plan_epoch, training_rows
from seqloom.systems.base import TrainingData
from seqloom.systems.tuned_text.config import StaticTuningConfig, TransformerTuningConfig

STATIC_PHASE, TRANSFORMER_PHASE = "train", "tune"
"""Names of the phases, which key the order of their batches."""


@dataclass(frozen=True)
class FirstSteps:
    """The first steps of a plan."""

    plan: EpochPlan
    limit: int | None

    def __len__(self) -> int:
        return min(len(self.plan), self.limit or len(self.plan))

    def __getitem__(self, step: int) -> TrainingBatch:
        return self.plan[step]


def contrastive_steps(rows: TrainingRows, config: TransformerTuningConfig, epoch: int) -> Steps:
    """Returns the batches of an epoch of a language model."""
    plan = plan_epoch(rows, config.batch_size, config.seed, TRANSFORMER_PHASE, epoch)
    return FirstSteps(plan, config.steps_per_epoch)


def first_batches(
    config: StaticTuningConfig | TransformerTuningConfig, data: TrainingData
) -> Steps:
    """Returns the batches of the first epoch without the model.

    Raises:
        ConfigError: there are no targets.
    """
    rows = training_rows(data.dataset.train, config.max_len, "windows")
    if isinstance(config, TransformerTuningConfig):
        return contrastive_steps(rows, config, 0)
    return plan_epoch(rows, config.batch_size, config.seed, STATIC_PHASE, 0)
