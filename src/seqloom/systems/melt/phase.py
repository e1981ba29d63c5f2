"""MELT's phases: the branches learn from head users and items, alone, then with the backbone."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seqloom.core.phase import Mean, Optimisation, Steps
from seqloom.nn.dropout import without_dropout
from seqloom.systems.base import TrainingData
from seqloom.systems.melt.batches import BranchBatch, ItemBatch, JointBatch
from seqloom.systems.melt.head import BranchSteps, Head
from seqloom.systems.melt.model import MELTModel
from seqloom.systems.sequence import RankingPhase

_TINY = 1e-12


def branch_losses(system: MELTModel, batch: BranchBatch, *, frozen: bool) -> dict[str, Mean]:
    """Returns lambda_U L_U and lambda_I L_I: squared errors, L_I as a share of the item table's variance.

    States have the scale of a normalised output, rows any scale; without the division, the gradient of the
    ranking loss is thousands of times that of L_I.

    States are those of evaluation mode: targets without the noise of dropout, and branches that learn from
    the inputs that they get later. `frozen` keeps the gradients from the backbone.

    Source: Kim et al., SIGIR 2023, eqs. of sections 3.2 and 3.3.
    """
    user_loss = item_loss = system.items.new_zeros(())
    learning = torch.no_grad() if frozen else nullcontext()
    with without_dropout(system):
        if users := batch.users:
            # The state of a few items, mapped, approaches the state of the whole history.
            with learning:
                few = system.plain_queries(users.few.items, users.few.lengths, system.items)
            with torch.no_grad():
                full = system.plain_queries(users.full.items, users.full.lengths, system.items)
            user_loss = _error(system.user_branch(few), full, users.weights)
        if items := batch.items:
            # The mean state of a few contexts, mapped, approaches the item's row.
            with learning:
                means = _mean_states(system, items)
            table = system.items.detach()
            rows = table[items.items - 1]
            error = _error(system.item_branch(means), rows, items.weights)
            # The variance of the whole table, so that shares of a batch add up to its loss.
            item_loss = error / table.var().clamp(min=_TINY)
    joint = system.config.joint
    return {
        "users": Mean(joint.user_weight * user_loss, batch.num_users),
        "items": Mean(joint.item_weight * item_loss, batch.num_items),
    }


def _error(predicted: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Returns the weighted mean squared error. Shapes: [B, D], [B, D], weights [B] -> scalar."""
    return (weights[:, None] * (predicted - truth).square()).mean()


def _mean_states(system: MELTModel, batch: ItemBatch) -> Tensor:
    """Returns the mean state of each item's contexts. Shapes: -> [B, D]."""
    states = system.plain_queries(batch.contexts.items, batch.contexts.lengths, system.items)
    sums = states.new_zeros(len(batch.items), states.shape[1]).index_add(0, batch.owner, states)
    return sums / torch.bincount(batch.owner, minlength=len(batch.items))[:, None]


class BranchPhase:
    """Trains one branch alone, on the trained backbone; its blend is chosen afterwards."""

    validated = False

    def __init__(self, system: MELTModel, head: Head, of: Literal["users", "items"]) -> None:
        self.name = f"{of} branch"
        self.system = system
        self.head = head
        settings = system.config.branches
        self.optimisation = Optimisation(
            epochs=settings.epochs, learning_rate=settings.learning_rate, schedule="cosine"
        )
        self._of_users = of == "users"
        self.module = system.user_branch if self._of_users else system.item_branch

    def steps(self, epoch: int) -> Steps:
        """Returns all head users, or all head items, in batches of `batch_size`."""
        if epoch == 0 and not self._of_users:
            self.system.start_item_branch(self.head)
        head, empty = self.head, self.head.users[:0]
        users, items = (head.users, empty) if self._of_users else (empty, head.items)
        count = -(-max(len(users), len(items)) // self.system.config.batch_size)
        return BranchSteps(head, users, items, self.name, epoch, self.optimisation.epochs, count)

    def loss(self, batch: BranchBatch) -> dict[str, Mean]:
        """Returns the loss of the branch."""
        name = "users" if self._of_users else "items"
        return {name: branch_losses(self.system, batch, frozen=True)[name]}


class JointPhase(RankingPhase):
    """Trains backbone and branches: L = ranking + lambda_U L_U + lambda_I L_I, with the chosen blends.

    Source: Kim et al., SIGIR 2023, section 3.4.
    """

    name = "joint"

    def __init__(self, system: MELTModel, data: TrainingData, head: Head) -> None:
        super().__init__(system, data)
        self.system = system
        self.head = head
        self.optimisation = system.config.joint_optimisation()

    def steps(self, epoch: int) -> Steps:
        """Returns the ranking batches of an epoch, each with its part of the head users and items."""
        ranking = super().steps(epoch)
        head, epochs = self.head, self.optimisation.epochs
        branches = BranchSteps(head, head.users, head.items, self.name, epoch, epochs, len(ranking))
        return _JointSteps(ranking, branches)

    def loss(self, batch: JointBatch) -> dict[str, Mean]:  # type: ignore[override]
        """Returns the ranking loss and the weighted losses of both branches."""
        branches = branch_losses(self.system, batch.branches, frozen=False)
        return {**super().loss(batch.ranking), **branches}


@dataclass(frozen=True)
class _JointSteps:
    ranking: Steps
    branches: BranchSteps

    def __len__(self) -> int:
        return len(self.ranking)

    def __getitem__(self, step: int) -> JointBatch:
        return JointBatch(self.ranking[step], self.branches[step])
