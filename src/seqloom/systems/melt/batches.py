"""Batches of MELT's branches: head users, head items, or both beside ranking rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.data.batches import TrainingBatch
from seqloom.data.sequences import PaddedBatch


@dataclass(frozen=True)
class UserBatch:
    """Head users: their histories, and the last few items of each."""

    full: PaddedBatch
    few: PaddedBatch
    weights: Tensor
    """[B] weights of the curriculum."""

    def share(self, rows: slice) -> UserBatch:
        """Returns some of the users."""
        return UserBatch(self.full.share(rows), self.few.share(rows), self.weights[rows])

    def to(self, device: torch.device) -> UserBatch:
        """Moves the batch to `device`."""
        return UserBatch(self.full.to(device), self.few.to(device), self.weights.to(device))


@dataclass(frozen=True)
class ItemBatch:
    """Head items, with a few of the histories that led to each."""

    items: Tensor
    """[B] item numbers."""
    contexts: PaddedBatch
    owner: Tensor
    """[contexts] position in `items`, ascending."""
    weights: Tensor
    """[B] weights of the curriculum."""

    def share(self, rows: slice) -> ItemBatch:
        """Returns some of the items with their histories."""
        bounds = torch.searchsorted(self.owner, torch.tensor([rows.start, rows.stop]))
        own = slice(*bounds.tolist())
        owner = self.owner[own] - rows.start
        return ItemBatch(self.items[rows], self.contexts.share(own), owner, self.weights[rows])

    def to(self, device: torch.device) -> ItemBatch:
        """Moves the batch to `device`."""
        items, contexts = self.items.to(device), self.contexts.to(device)
        return ItemBatch(items, contexts, self.owner.to(device), self.weights.to(device))


@dataclass(frozen=True)
class BranchBatch:
    """One step of the branches; None for a branch that does not learn in it."""

    users: UserBatch | None
    items: ItemBatch | None

    @property
    def num_users(self) -> int:
        return len(self.users.weights) if self.users else 0

    @property
    def num_items(self) -> int:
        return len(self.items.weights) if self.items else 0

    @property
    def num_targets(self) -> int:
        return self.num_users + self.num_items

    def __len__(self) -> int:
        return max(self.num_users, self.num_items)

    def share(self, rows: slice) -> BranchBatch:
        """Returns some rows of the larger part, and the other in proportion."""
        return self.proportional_share(rows, len(self))

    def proportional_share(self, rows: slice, of: int) -> BranchBatch:
        """Returns the users and items that belong to `rows` of a batch of `of` rows.

        Rounding both ends down assigns each user and item to exactly one share.
        """

        def proportion(count: int) -> slice:
            return slice(rows.start * count // of, rows.stop * count // of)

        users, items = proportion(self.num_users), proportion(self.num_items)
        return BranchBatch(
            self.users.share(users) if self.users and users.start < users.stop else None,
            self.items.share(items) if self.items and items.start < items.stop else None,
        )

    def to(self, device: torch.device) -> BranchBatch:
        """Moves the batch to `device`."""
        users, items = self.users, self.items
        return BranchBatch(users and users.to(device), items and items.to(device))


@dataclass(frozen=True)
class JointBatch:
    """One step of the joint phase."""

    ranking: TrainingBatch
    branches: BranchBatch

    @property
    def num_targets(self) -> int:
        return self.ranking.num_targets

    def __len__(self) -> int:
        return len(self.ranking)

    def share(self, rows: slice) -> JointBatch:
        """Returns some rows to rank, with head users and items in proportion."""
        branches = self.branches.proportional_share(rows, len(self))
        return JointBatch(self.ranking.share(rows), branches)

    def to(self, device: torch.device) -> JointBatch:
        """Moves the batch to `device`."""
        return JointBatch(self.ranking.to(device), self.branches.to(device))
