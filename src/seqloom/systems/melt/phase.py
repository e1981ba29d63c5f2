"""MELT's phases: the branches learn from head users and items, on their own, then with the backbone."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from seqloom.core.phase import Mean, Optimisation, Steps
from seqloom.core.random import generator
from seqloom.data.batches import TrainingBatch
from seqloom.data.sequences import PaddedBatch, Sequences
from seqloom.nn.dropout import without_dropout
from seqloom.systems.base import TrainingData
from seqloom.systems.occurrences import Occurrences, find_occurrences, head_from
from seqloom.systems.sequence import RankingPhase

if TYPE_CHECKING:
    from seqloom.systems.melt.system import MELT

_LONGEST_COUNTED = 50
"""An item's contexts beyond the threshold that the curriculum still tells apart. Source: authors' code."""
_TINY = 1e-12


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

    def to(self, device: torch.device) -> UserBatch:
        """The same batch on `device`."""
        return UserBatch(self.full.to(device), self.few.to(device), self.weights.to(device))


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

    def to(self, device: torch.device) -> ItemBatch:
        """The same batch on `device`."""
        items, contexts = self.items.to(device), self.contexts.to(device)
        return ItemBatch(items, contexts, self.owner.to(device), self.weights.to(device))


@dataclass(frozen=True)
class BranchBatch:
    """What a step of the branches learns from; a branch may have nothing in a step."""

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
        """Some rows of the larger part, and of the other in proportion."""
        return self.part(rows, len(self))

    def part(self, rows: slice, of: int) -> BranchBatch:
        """What goes with `rows` of a batch of `of` rows."""

        def proportion(count: int) -> slice:
            return slice(rows.start * count // of, rows.stop * count // of)

        users, items = proportion(self.num_users), proportion(self.num_items)
        return BranchBatch(
            self.users.share(users) if self.users and users.start < users.stop else None,
            self.items.share(items) if self.items and items.start < items.stop else None,
        )

    def to(self, device: torch.device) -> BranchBatch:
        """The same batch on `device`."""
        users, items = self.users, self.items
        return BranchBatch(users and users.to(device), items and items.to(device))


@dataclass(frozen=True)
class JointBatch:
    """What one step of the joint phase learns from."""

    ranking: TrainingBatch
    branches: BranchBatch

    @property
    def num_targets(self) -> int:
        return self.ranking.num_targets

    def __len__(self) -> int:
        return len(self.ranking)

    def share(self, rows: slice) -> JointBatch:
        """Some rows to rank, with head users and items in proportion."""
        return JointBatch(self.ranking.share(rows), self.branches.part(rows, len(self)))

    def to(self, device: torch.device) -> JointBatch:
        """The same batch on `device`."""
        return JointBatch(self.ranking.to(device), self.branches.to(device))


class Head:
    """The head users and head items of the training part, and what the branches learn from them.

    Who is head is decided by the training part alone, by the thresholds that group users and items in an
    evaluation.
    """

    def __init__(self, system: MELT, data: TrainingData) -> None:
        train, popularity = data.dataset.train, data.dataset.popularity[1:]
        self.seed, self.max_len = system.config.seed, system.max_len
        self.train = train
        self.occurrences: Occurrences = find_occurrences(
            train, system.sizes.num_items, self.seed, after=1
        )
        self.user_threshold = head_from(train.lengths, "users")
        self.item_threshold = head_from(popularity, "items")
        self.users = torch.nonzero(train.lengths >= self.user_threshold).flatten()
        usable = self.occurrences.counts > 0
        head = popularity >= self.item_threshold
        self.items = torch.nonzero(head & usable).flatten() + 1
        self.tail_items = torch.nonzero(~head & usable).flatten() + 1
        self.tail_counts = popularity[self.tail_items - 1]

    def contexts(self, items: Tensor, k: int, starts: Tensor | None) -> tuple[Tensor, Sequences]:
        """Up to `k` histories that led to each item, and the place in `items` of each."""
        which, real = self.occurrences.draw(items, k, starts)
        owner = torch.arange(len(items))[:, None].expand_as(real)[real]
        return owner, self.occurrences.before(which[real])

    def user_batch(self, users: Tensor, done: float, *keys: str | int) -> UserBatch | None:
        """Some head users; `done` is the share of the epochs that are over, `keys` name the step."""
        if not len(users):
            return None
        draw = generator(self.seed, "few", *keys)
        full = self.train.select(users)
        few = torch.randint(1, max(2, self.user_threshold), (len(users),), generator=draw)
        cut = Sequences(full.items, torch.maximum(full.starts, full.ends - few), full.ends)
        longest = min(self.max_len, int(self.train.lengths.max()))
        span = 2 * max(1, longest - self.user_threshold)
        weights = _curriculum(full.lengths.clamp(max=longest) - self.user_threshold, span, done)
        return UserBatch(full.pad(self.max_len), cut.pad(self.max_len), weights)

    def item_batch(self, items: Tensor, done: float, *keys: str | int) -> ItemBatch | None:
        """The same of some head items."""
        if not len(items):
            return None
        draw = generator(self.seed, "contexts", *keys)
        counts = self.occurrences.counts[items - 1]
        starts = (torch.rand(len(items), generator=draw) * counts).long()
        few = int(torch.randint(1, max(2, self.item_threshold), (), generator=draw))
        owner, contexts = self.contexts(items, few, starts)
        above = (counts - self.item_threshold).clamp(0, _LONGEST_COUNTED)
        weights = _curriculum(above, 2 * _LONGEST_COUNTED, done)
        return ItemBatch(items, contexts.pad(self.max_len), owner, weights)


def _curriculum(above: Tensor, span: int, done: float) -> Tensor:
    """|sin(pi/2 e/E + pi (n - a) / span)|: the longest first, the barely long ones later.

    Source: Kim et al., SIGIR 2023, section 3.2.
    """
    return torch.sin(math.pi / 2 * done + math.pi * above / span).abs()


@dataclass(frozen=True)
class BranchSteps:
    """An epoch over some head users and head items, in `count` steps."""

    head: Head
    users: Tensor
    items: Tensor
    phase: str
    epoch: int
    epochs: int
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> BranchBatch:
        keys, done = (self.phase, self.epoch, step), self.epoch / max(1, self.epochs)
        users, items = self._share(self.users, step), self._share(self.items, step)
        return BranchBatch(
            self.head.user_batch(users, done, *keys), self.head.item_batch(items, done, *keys)
        )

    def _share(self, of: Tensor, step: int) -> Tensor:
        draw = generator(self.head.seed, "head", self.phase, self.epoch, len(of))
        return of[torch.randperm(len(of), generator=draw).tensor_split(self.count)[step]]


def branch_losses(system: MELT, batch: BranchBatch, *, frozen: bool) -> dict[str, Mean]:
    """lambda_U L_U + lambda_I L_I: squared errors, of rows as a share of the item table's variance.

    States have the size of a norm's output, rows any size; without the share, the ranking loss has a gradient
    thousands of times that of L_I.

    States are those of evaluation mode: targets without the noise of dropout, and branches that learn from
    what they are asked about later. `frozen` keeps the gradients from the backbone.

    Source: Kim et al., SIGIR 2023, eqs. of sections 3.2 and 3.3.
    """
    zero = system.items.new_zeros(())
    of_users = of_items = zero
    learning = torch.no_grad() if frozen else nullcontext()
    with without_dropout(system):
        if users := batch.users:
            with learning:
                few = system.plain_queries(users.few.items, users.few.lengths, system.items)
            with torch.no_grad():
                full = system.plain_queries(users.full.items, users.full.lengths, system.items)
            of_users = _error(system.user_branch(few), full, users.weights)
        if items := batch.items:
            with learning:
                means = _mean_states(system, items)
            table = system.items.detach()
            truth = table[items.items - 1]
            error = _error(system.item_branch(means), truth, items.weights)
            of_items = error / table.var().clamp(min=_TINY)
    joint = system.config.joint
    return {
        "users": Mean(joint.user_weight * of_users, batch.num_users),
        "items": Mean(joint.item_weight * of_items, batch.num_items),
    }


def _error(found: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Shapes: found, truth [B, D], weights [B] -> scalar."""
    return (weights[:, None] * (found - truth).square()).mean()


def _mean_states(system: MELT, batch: ItemBatch) -> Tensor:
    """The mean state of each item's contexts. Shapes: -> [B, D]."""
    states = system.plain_queries(batch.contexts.items, batch.contexts.lengths, system.items)
    sums = states.new_zeros(len(batch.items), states.shape[1]).index_add(0, batch.owner, states)
    return sums / torch.bincount(batch.owner, minlength=len(batch.items))[:, None]


class JointPhase(RankingPhase):
    """Backbone and branches: L = ranking + lambda_U L_U + lambda_I L_I, with the blends as they were chosen.

    Source: Kim et al., SIGIR 2023, section 3.4.
    """

    name = "joint"

    def __init__(self, system: MELT, data: TrainingData, head: Head) -> None:
        super().__init__(system, data)
        self.system = system
        self.head = head
        self.optimisation = system.config.joint_optimisation()

    def steps(self, epoch: int) -> Steps:
        """The ranking batches of an epoch, each with its share of the head users and items."""
        ranking = super().steps(epoch)
        head, epochs = self.head, self.optimisation.epochs
        branches = BranchSteps(head, head.users, head.items, self.name, epoch, epochs, len(ranking))
        return _JointSteps(ranking, branches)

    def loss(self, batch: JointBatch) -> dict[str, Mean]:  # type: ignore[override]
        """The ranking loss and the weighted losses of both branches."""
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


class BranchPhase:
    """One branch alone, on the trained backbone; how far it is followed is chosen afterwards."""

    validated = False

    def __init__(self, system: MELT, head: Head, of: Literal["users", "items"]) -> None:
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
        """All head users, or all head items, in batches of `batch_size`."""
        if epoch == 0 and not self._of_users:
            self.system.start_item_branch(self.head)
        head, none = self.head, self.head.users[:0]
        users, items = (head.users, none) if self._of_users else (none, head.items)
        count = -(-max(len(users), len(items)) // self.system.config.batch_size)
        return BranchSteps(head, users, items, self.name, epoch, self.optimisation.epochs, count)

    def loss(self, batch: BranchBatch) -> dict[str, Mean]:
        """The loss of the branch."""
        name = "users" if self._of_users else "items"
        return {name: branch_losses(self.system, batch, frozen=True)[name]}
