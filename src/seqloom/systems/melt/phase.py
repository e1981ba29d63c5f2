"""MELT's second phase: next items, and the two branches learning from head users and items."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seqloom.core.phase import Mean, Steps
from seqloom.core.random import generator
from seqloom.data.batches import TrainingBatch
from seqloom.data.sequences import PaddedBatch, Sequences
from seqloom.systems.base import TrainingData
from seqloom.systems.occurrences import Occurrences, find_occurrences, head_from
from seqloom.systems.sequence import RankingPhase

if TYPE_CHECKING:
    from seqloom.systems.melt.system import MELT


@dataclass(frozen=True)
class UserBatch:
    """Head users: their histories, and the last few items of them."""

    full: PaddedBatch
    few: PaddedBatch
    weights: Tensor
    """[B] the curriculum's."""

    def share(self, rows: slice) -> UserBatch:
        """Some users."""
        return UserBatch(self.full.share(rows), self.few.share(rows), self.weights[rows])


@dataclass(frozen=True)
class ItemBatch:
    """Head items, with a few of the histories that led to them."""

    items: Tensor
    """[B] item numbers."""
    contexts: PaddedBatch
    owner: Tensor
    """[contexts] place in `items`."""
    weights: Tensor
    """[B] the curriculum's."""

    def share(self, rows: slice) -> ItemBatch:
        """Some items with the histories that are theirs; `owner` is rising."""
        bounds = torch.searchsorted(self.owner, torch.tensor([rows.start, rows.stop]))
        own = slice(*bounds.tolist())
        owner = self.owner[own] - rows.start
        return ItemBatch(self.items[rows], self.contexts.share(own), owner, self.weights[rows])


@dataclass(frozen=True)
class JointBatch:
    """What one step of the joint phase learns from; a branch may have nothing in a step."""

    ranking: TrainingBatch
    users: UserBatch | None
    items: ItemBatch | None

    @property
    def num_targets(self) -> int:
        return self.ranking.num_targets

    def __len__(self) -> int:
        return len(self.ranking)

    def share(self, rows: slice) -> JointBatch:
        """Some rows to rank, with head users and items in proportion."""
        users, items = self.users, self.items
        of_users = self._proportion(rows, len(users.weights) if users else 0)
        of_items = self._proportion(rows, len(items.weights) if items else 0)
        return JointBatch(
            self.ranking.share(rows),
            users.share(of_users) if users and of_users.start < of_users.stop else None,
            items.share(of_items) if items and of_items.start < of_items.stop else None,
        )

    def _proportion(self, rows: slice, count: int) -> slice:
        return slice(rows.start * count // len(self), rows.stop * count // len(self))

    def to(self, device: torch.device) -> JointBatch:
        """The same batch on `device`."""
        users, items = self.users, self.items
        return JointBatch(
            self.ranking.to(device),
            users
            and UserBatch(users.full.to(device), users.few.to(device), users.weights.to(device)),
            items
            and ItemBatch(
                items.items.to(device),
                items.contexts.to(device),
                items.owner.to(device),
                items.weights.to(device),
            ),
        )


class JointPhase(RankingPhase):
    """L = ranking + lambda_U L_U + lambda_I L_I. Source: Kim et al., SIGIR 2023, section 3.4."""

    name = "joint"

    def __init__(self, system: MELT, data: TrainingData) -> None:
        super().__init__(system, data)
        self.system = system
        self.optimisation = system.config.joint_optimisation()
        train = data.dataset.train
        seed = system.config.seed
        self.train = train
        self.occurrences: Occurrences = find_occurrences(
            train, system.sizes.num_items, seed, after=1
        )
        popularity = data.dataset.popularity[1:]
        self.user_threshold = head_from(train.lengths, "users")
        self.item_threshold = head_from(popularity, "items")
        self.head_users = torch.nonzero(train.lengths >= self.user_threshold).flatten()
        usable = self.occurrences.counts > 0
        head = popularity >= self.item_threshold
        self.head_items = torch.nonzero(head & usable).flatten() + 1
        self.tail_items = torch.nonzero(~head & usable).flatten() + 1

    def steps(self, epoch: int) -> Steps:
        """The batches of an epoch; from the second on, tail items' rows are rewritten first."""
        if epoch > int(self.system.rewritten):
            items, prepare = (
                (self.tail_items, self.system.rewrite_rows)
                if epoch
                else (self.head_items, self.system.fit_item_branch)
            )
            owner, contexts = self.contexts(items, self.item_threshold, None)
            prepare(items, contexts, owner)
            self.system.rewritten.fill_(epoch)
        return _JointSteps(self, super().steps(epoch), epoch)

    def contexts(self, items: Tensor, k: int, starts: Tensor | None) -> tuple[Tensor, Sequences]:
        """Up to `k` histories that led to each item, and the place in `items` of each."""
        which, real = self.occurrences.draw(items, k, starts)
        owner = torch.arange(len(items))[:, None].expand_as(real)[real]
        return owner, self.occurrences.before(which[real])

    def loss(self, batch: JointBatch) -> dict[str, Mean]:  # type: ignore[override]
        """The ranking loss and the weighted losses of both branches."""
        parts = super().loss(batch.ranking)
        joint = self.system.config.joint
        zero = parts["rank"].value.new_zeros(())
        users = self._user_loss(batch.users) if batch.users else zero
        items = self._item_loss(batch.items) if batch.items else zero
        num_users = len(batch.users.weights) if batch.users else 0
        num_items = len(batch.items.weights) if batch.items else 0
        return {
            **parts,
            "users": Mean(joint.user_weight * users, num_users),
            "items": Mean(joint.item_weight * items, num_items),
        }

    def _user_loss(self, batch: UserBatch) -> Tensor:
        system = self.system
        few = system.plain_queries(batch.few.items, batch.few.lengths, system.items)
        with torch.no_grad():
            full = system.plain_queries(batch.full.items, batch.full.lengths, system.items)
        return (batch.weights[:, None] * (system.user_branch(few) - full) ** 2).mean()

    def _item_loss(self, batch: ItemBatch) -> Tensor:
        system = self.system
        states = system.queries(batch.contexts.items, batch.contexts.lengths, system.items)
        sums = states.new_zeros(len(batch.items), states.shape[1])
        sums = sums.index_add(0, batch.owner, states)
        counts = torch.bincount(batch.owner, minlength=len(batch.items))
        inferred = system.item_branch(sums / counts[:, None])
        truth = system.items[batch.items - 1].detach()
        return (batch.weights[:, None] * (inferred - truth) ** 2).mean()


@dataclass(frozen=True)
class _JointSteps:
    """Ranking batches, each with its share of the head users and head items."""

    phase: JointPhase
    ranking: Steps
    epoch: int

    def __len__(self) -> int:
        return len(self.ranking)

    def __getitem__(self, step: int) -> JointBatch:
        return JointBatch(self.ranking[step], self._users(step), self._items(step))

    def _share(self, of: Tensor, what: str, step: int) -> Tensor:
        draw = generator(self.phase.system.config.seed, "head", what, self.epoch)
        order = torch.randperm(len(of), generator=draw)
        return of[order.tensor_split(len(self))[step]]

    def _users(self, step: int) -> UserBatch | None:
        phase = self.phase
        users = self._share(phase.head_users, "users", step)
        if not len(users):
            return None
        draw = generator(phase.system.config.seed, "few", self.epoch, step)
        full = phase.train.select(users)
        few = torch.randint(1, max(2, phase.user_threshold), (len(users),), generator=draw)
        cut = Sequences(full.items, torch.maximum(full.starts, full.ends - few), full.ends)
        longest = min(phase.system.max_len, int(phase.train.lengths.max()))
        span = 2 * max(1, longest - phase.user_threshold)
        counts = full.lengths.clamp(max=longest)
        weights = self._curriculum(counts - phase.user_threshold, span)
        most = phase.system.max_len
        return UserBatch(full.pad(most), cut.pad(most), weights)

    def _items(self, step: int) -> ItemBatch | None:
        phase = self.phase
        items = self._share(phase.head_items, "items", step)
        if not len(items):
            return None
        draw = generator(phase.system.config.seed, "contexts", self.epoch, step)
        counts = phase.occurrences.counts[items - 1]
        starts = (torch.rand(len(items), generator=draw) * counts).long()
        few = int(torch.randint(1, max(2, phase.item_threshold), (), generator=draw))
        owner, contexts = phase.contexts(items, few, starts)
        above = counts.clamp(max=phase.item_threshold + 50) - phase.item_threshold
        weights = self._curriculum(above.clamp(min=0), 100)
        return ItemBatch(items, contexts.pad(phase.system.max_len), owner, weights)

    def _curriculum(self, above: Tensor, span: int) -> Tensor:
        """|sin(pi/2 e/E + pi (n - a) / span)|: the longest first, the barely long ones later.

        Source: Kim et al., SIGIR 2023, section 3.2.
        """
        done = self.epoch / max(1, self.phase.optimisation.epochs)
        return torch.sin(math.pi / 2 * done + math.pi * above / span).abs()
