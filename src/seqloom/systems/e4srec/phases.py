"""E4SRec's phase: all positions of a history in one pass, or a prompt for every target."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.core.phase import Mean
from seqloom.data.batches import (
    EpochPlan,
    TrainingBatch,
    TrainingRows,
    plan_epoch,
    training_rows,
)
from seqloom.data.sequences import PaddedBatch, Sequences
from seqloom.systems.base import TrainingData
from seqloom.systems.e4srec.model import E4SRecModel
from seqloom.systems.ranking_loss import RankingLoss


class CausalPhase:
    """Trains E4SRec to predict every item of a history from those before it, in one pass.

    Differs: the authors make a prompt of every prefix of a history (see `PromptPhase`), which ends with the
        response mark; here the position of an item predicts the next item, without a mark.
    """

    name = "train"
    validated = True

    def __init__(self, system: E4SRecModel, data: TrainingData) -> None:
        config = system.config
        self.module = system
        self.optimisation = config.optimisation()
        self.rows = training_rows(data.dataset.train, system.max_len, config.long_histories)
        device = next(system.parameters()).device
        loss = config.ranking_loss
        self.ranking = RankingLoss(loss, data.dataset.popularity, data.processes).to(device)
        # A graph cannot repeat the random draws of a layer that is computed again.
        recomputes = config.llm.gradient_checkpointing
        self.replays = loss.kind == "softmax" and system.reader.causal and not recomputes

    def steps(self, epoch: int) -> EpochPlan:
        """Returns the batches of an epoch."""
        self.module.begin_training()
        config = self.module.config
        return plan_epoch(self.rows, config.batch_size, config.seed, self.name, epoch)

    def loss(self, batch: TrainingBatch) -> dict[str, Mean]:
        """Returns the ranking loss over all positions with a target."""
        candidates = self.module.candidates()
        states = self.module.states(batch.inputs.items, batch.inputs.lengths, candidates)
        hidden, targets = batch.at_targets(states)
        hidden = self.module.output_dropout(hidden)
        loss = self.ranking(hidden, candidates, targets - 1, padded=batch.has_gaps)
        return {"loss": Mean(loss, batch.num_targets)}


@dataclass(frozen=True)
class PromptBatch:
    """Histories and the one item that follows each."""

    inputs: PaddedBatch
    targets: Tensor
    """[B] int64."""

    @property
    def num_targets(self) -> int:
        """B."""
        return len(self.targets)

    def __len__(self) -> int:
        return len(self.targets)

    def share(self, rows: slice) -> PromptBatch:
        """Returns some of the prompts."""
        return PromptBatch(self.inputs.share(rows), self.targets[rows])

    def to(self, device: torch.device) -> PromptBatch:
        """Moves the batch to `device`."""
        return PromptBatch(self.inputs.to(device), self.targets.to(device, non_blocking=True))


@dataclass(frozen=True)
class PromptPlan:
    """The batches of an epoch of prompts."""

    plan: EpochPlan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> PromptBatch:
        rows = self.plan.rows.items.select(self.plan.order[step])
        histories = Sequences(rows.items, rows.starts, rows.ends - 1)
        return PromptBatch(histories.pad(), rows.items[rows.ends - 1].long())


class PromptPhase:
    """Trains E4SRec on prompts; every training item after a user's first is a target once an epoch.

    Source: E4SRec, section 3.3.
    Differs: no prompt without history, none with more than `max_len` items; each target once an epoch.
    """

    name = "train"
    validated = True

    def __init__(self, system: E4SRecModel, data: TrainingData) -> None:
        self.module = system
        self.optimisation = system.config.optimisation()
        self.rows = prompt_rows(data.dataset.train, system.max_len)
        device = next(system.parameters()).device
        loss = system.config.ranking_loss
        self.ranking = RankingLoss(loss, data.dataset.popularity, data.processes).to(device)

    def steps(self, epoch: int) -> PromptPlan:
        """Returns the batches of an epoch."""
        self.module.begin_training()
        config = self.module.config
        return PromptPlan(plan_epoch(self.rows, config.batch_size, config.seed, self.name, epoch))

    def loss(self, batch: PromptBatch) -> dict[str, Mean]:
        """Returns the ranking loss of the prompts' targets."""
        candidates = self.module.candidates()
        states = self.module.last_states(batch.inputs.items, batch.inputs.lengths, candidates)
        loss = self.ranking(self.module.output_dropout(states), candidates, batch.targets - 1)
        return {"loss": Mean(loss, batch.num_targets)}


def prompt_rows(train: Sequences, max_len: int) -> TrainingRows:
    """Returns a row for each target: its last `max_len` predecessors and itself."""
    counts = (train.lengths - 1).clamp(min=0)
    users = torch.repeat_interleave(torch.arange(len(train)), counts)
    number = torch.arange(len(users)) - (counts.cumsum(0) - counts)[users]
    ends = train.starts[users] + number + 2
    starts = torch.maximum(train.starts[users], ends - max_len - 1)
    return TrainingRows(Sequences(train.items, starts, ends), users, number == counts[users] - 1)
