"""Matrix factorisation, trained to rank the items of a user before all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqloom.core.errors import ConfigError
from seqloom.core.phase import Mean, Optimisation, Phase
from seqloom.core.random import generator
from seqloom.data.sequences import PaddedBatch
from seqloom.nn.item_product import ItemProduct
from seqloom.systems.base import Sizes, System, TrainingData
from seqloom.systems.config import BPRConfig
from seqloom.systems.ranking_loss import DRAWS, outside
from seqloom.systems.seen_items import SeenItems


class BPR(System[BPRConfig]):
    """A vector for each user and each item; the score is their dot product.

    Order and time are not used. Users' vectors are trained and then dropped, so that a run serves any
    history: its vector u solves the ridge regression

        min_u  sum over items i of the history of (1 - u . v_i)^2  +  fold_in |u|^2

    A user who has every item leaves none to rank below them and teaches nothing.

    Source: Rendle et al., UAI 2009: BPR-Opt (section 4.1) with matrix factorisation (section 4.3.1).
    Differs: users are folded in, above; AdamW over batches in place of single steps of gradient descent; one
    negative of each event in an epoch in place of draws with replacement.
    """

    name: ClassVar[str] = "bpr"
    config_class: ClassVar[type[BPRConfig]] = BPRConfig
    users: nn.Parameter | None

    def __init__(self, config: BPRConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.items = nn.Parameter(torch.zeros(sizes.num_items, config.hidden_size))
        self.register_parameter("users", None)

    @property
    def vector_size(self) -> int:
        """D, the width of the item vectors."""
        return self.config.hidden_size

    @property
    def max_len(self) -> int:
        """The longest history that is folded in."""
        return self.config.max_len

    def initialise(self, data: TrainingData) -> None:
        """Draws the tables."""
        nn.init.normal_(self.items, std=self.config.initial_std)
        self._draw_users(data)

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Returns one phase over the events of the training part.

        Raises:
            ConfigError: no user has an event in the training part and an item without one.
        """
        return [PairPhase(self, data)]

    def finish(self) -> None:
        """Drops the vectors of the users."""
        self.users = None

    def reopen(self, data: TrainingData) -> None:
        """Draws vectors of users as before training."""
        self._draw_users(data)

    def scorer(self) -> FoldInScorer:
        """Returns a scorer that folds histories in."""
        return FoldInScorer(self.items.detach().clone(), self.config.fold_in)

    def _draw_users(self, data: TrainingData) -> None:
        table = torch.empty(len(data.dataset.train), self.config.hidden_size)
        draw = generator(self.config.seed, "users")
        self.users = nn.Parameter(
            nn.init.normal_(table, std=self.config.initial_std, generator=draw)
        )


@dataclass(frozen=True)
class PairBatch:
    """Events of the training part, each with an item that its user has no event of."""

    users: Tensor
    """[B] int64, rows of the users' table."""
    items: Tensor
    """[B] int64, item numbers 1..N."""
    negatives: Tensor
    """[B] int64, item numbers 1..N."""

    def __len__(self) -> int:
        return len(self.users)

    @property
    def num_targets(self) -> int:
        """The number of events."""
        return len(self)

    def share(self, rows: slice) -> PairBatch:
        """Returns some of the events."""
        return PairBatch(self.users[rows], self.items[rows], self.negatives[rows])

    def to(self, device: torch.device) -> PairBatch:
        """Moves the batch to `device`."""
        parts = (self.users, self.items, self.negatives)
        return PairBatch(*(part.to(device, non_blocking=True) for part in parts))


class PairPhase:
    """Trains to score an item of a user above one that the user has no event of."""

    name = "train"
    validated = True

    def __init__(self, system: BPR, data: TrainingData) -> None:
        self.module = system
        self.optimisation = Optimisation.of(system.config)
        train, num_items = data.dataset.train, system.sizes.num_items
        self.seen = SeenItems(train, num_items)
        users, items = train.flat()
        paired = self.seen.counts[users] < num_items
        self.users, self.items = users[paired], items[paired]
        if not len(self.users):
            raise ConfigError(
                f"every user with events in the training part has all {num_items} items there, so bpr has "
                "no item to rank below others; train another one, such as --system itemknn"
            )

    def steps(self, epoch: int) -> PairSteps:
        """Returns the events in a new order."""
        draw = generator(self.module.config.seed, "batches", self.name, epoch)
        order = torch.randperm(len(self.users), generator=draw)
        return PairSteps(self, epoch, order.split(self.module.config.batch_size))

    def loss(self, batch: PairBatch) -> dict[str, Mean]:
        """Returns -log sigmoid of the difference of the scores, and the penalty of the vectors."""
        system = self.module
        assert system.users is not None
        user = F.embedding(batch.users, system.users)
        item = F.embedding(batch.items - 1, system.items)
        other = F.embedding(batch.negatives - 1, system.items)
        ranked = F.softplus(-(user * (item - other)).sum(1)).mean()
        norms = (user.square() + item.square() + other.square()).sum(1).mean()
        return {
            "rank": Mean(ranked, len(batch)),
            "penalty": Mean(system.config.penalty * norms, len(batch)),
        }


@dataclass(frozen=True)
class PairSteps:
    """The batches of one epoch, each drawn on access."""

    phase: PairPhase
    epoch: int
    order: Sequence[Tensor]
    """Events of each batch."""

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, step: int) -> PairBatch:
        phase, chosen = self.phase, self.order[step]
        users, num_items = phase.users[chosen], phase.module.sizes.num_items
        draw = generator(phase.module.config.seed, "negatives", phase.name, self.epoch, step)
        drawn = torch.randint(DRAWS, (len(chosen), 1), generator=draw)
        rows = outside(phase.seen.of(users), drawn, num_items)[:, 0]
        return PairBatch(users, phase.items[chosen], rows + 1)


class FoldInScorer:
    """Scores by dot products with the vector that a history is folded into."""

    def __init__(self, item_vectors: Tensor, fold_in: float) -> None:
        self.item_vectors = item_vectors
        self.num_items = len(item_vectors)
        self.score_queries = ItemProduct(item_vectors)
        self._fold_in = fold_in

    def queries(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Returns the solution of the ridge regression of each history. Shapes: [B, L], [B] -> [B, D]."""
        real = PaddedBatch(items, lengths).mask[..., None]
        rows = F.embedding((items - 1).clamp(min=0), self.item_vectors) * real  # [B, L, D]
        gram = rows.mT @ rows  # [B, D, D]
        gram.diagonal(dim1=1, dim2=2).add_(self._fold_in)
        return torch.cholesky_solve(rows.sum(1)[..., None], torch.linalg.cholesky(gram))[..., 0]

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Scores the catalogue. Shapes: [B, L], [B] -> [B, N]."""
        return self.score_queries(self.queries(items, lengths))
