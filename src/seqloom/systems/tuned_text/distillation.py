"""The training phases of distillation: a table of item vectors by the log, then a model that reads it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqloom.core.phase import Mean, Optimisation, Steps
from seqloom.data.batches import TrainingBatch, training_rows
from seqloom.data.store import Dataset
from seqloom.nn.recency import RecencySum
from seqloom.systems.base_config import OffsetLossConfig
from seqloom.systems.ranking_loss import RankingLoss
from seqloom.systems.tuned_text.batches import (
    DISTIL_PHASE,
    TABLE_PHASE,
    TextBatch,
    table_steps,
    text_steps,
)
from seqloom.systems.tuned_text.config import DistilledTuningConfig
from seqloom.systems.tuned_text.tower import TextModel

_EPS = 1e-6
_HIDDEN = -1e4
_RIDGE = 0.01
"""Ridge of the head's start, relative to the mean variance of the model's vectors."""


class ItemTable(nn.Module):
    """A vector for each item, and the parameters that read histories of them."""

    def __init__(self, config: DistilledTuningConfig, popularity: Tensor, width: int) -> None:
        """`popularity` [N + 1] are the training counts, entry 0 for padding."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(len(popularity) - 1, width))
        self.recency = RecencySum(config.max_len, config.decay, config.history_dropout)
        self.log_scale = nn.Parameter(torch.tensor(1 / config.table.temperature).log())
        loss = OffsetLossConfig(popularity_offset=config.table.popularity_offset)
        self.ranking = RankingLoss(loss, popularity)

    def vectors(self) -> Tensor:
        """Returns the rows at length 1. Shapes: [N, E]."""
        return F.normalize(self.weight, dim=1, eps=_EPS)

    def states(self, items: Tensor, vectors: Tensor) -> Tensor:
        """Returns directions after each item, times the inverse temperature.

        Shapes: items [B, L], vectors [N, E] -> [B, L, E].
        """
        x = vectors[(items - 1).clamp(min=0)] * (items > 0)[..., None]
        return F.normalize(self.recency(x), dim=-1, eps=_EPS) * self.log_scale.exp()


class DistilledTower(nn.Module):
    """The table, and a model whose head, a linear map, leads into the table's space."""

    reached: Tensor
    """[] int64, how many phases have begun: a phase begins from the result of the one before it, and a
    resumed phase does not begin again."""

    def __init__(self, text: TextModel, table: ItemTable) -> None:
        super().__init__()
        self.text = text
        self.table = table
        self.register_buffer("reached", torch.tensor(0))

    def begin(self, number: int) -> bool:
        """Returns whether phase 1, 2, ... begins now, and notes that it has begun."""
        begins = int(self.reached) < number
        self.reached.clamp_(min=number)
        return begins


class TablePhase:
    """Trains the table on next items: the exact softmax over the catalogue, as textknn would rank it.

    The items of a target's own history are no negatives, as in ranking.
    """

    name = TABLE_PHASE
    validated = True

    def __init__(
        self,
        tower: DistilledTower,
        config: DistilledTuningConfig,
        dataset: Dataset,
        start: Callable[[], Tensor],
    ) -> None:
        """`start` computes the first vectors, [N, E]."""
        self.module = tower.table
        table = config.table
        self.optimisation = Optimisation(
            epochs=table.epochs,
            learning_rate=table.learning_rate,
            patience=table.patience,
            chosen_among="phase",
        )
        self.rows = training_rows(dataset.train, config.max_len, "windows")
        self._tower = tower
        self._config = config
        self._start = start

    @torch.no_grad()
    def steps(self, epoch: int) -> Steps:
        """Returns the batches of an epoch; the table has its first vectors before the first of them."""
        if self._tower.begin(1):
            self.module.weight.copy_(self._start())
        return table_steps(self.rows, self._config, epoch)

    def loss(self, batch: TrainingBatch) -> dict[str, Mean]:
        """Returns the cross-entropy of the targets."""
        items = batch.inputs.items
        vectors = self.module.vectors()
        states, targets = batch.at_targets(self.module.states(items, vectors))
        own = items[batch.places // items.shape[1]]  # [M, L]
        hidden = torch.where((own > 0) & (own != targets[:, None]), _HIDDEN, 0.0)
        terms = ((own - 1).clamp(min=0), hidden)
        loss = self.module.ranking(states, vectors, targets - 1, terms=terms)
        return {"rank": Mean(loss, batch.num_targets)}


class DistilPhase:
    """Trains the model to place each text where the table has its item.

    The loss is 1 - cosine to the item's row, plus the divergence between the softmax over the row's
    similarities to the whole table and that over the text's, times their temperature.

    Source: relational and pointwise distillation, as in Park et al., CVPR 2019 (arXiv 1904.05068), with the
        softmax of Hinton et al., 2015 (arXiv 1503.02531), eq. 1.
    Differs: similarities to all rows instead of to the batch.
    """

    name = DISTIL_PHASE
    validated = True

    def __init__(
        self,
        tower: DistilledTower,
        config: DistilledTuningConfig,
        lengths: Tensor,
        encode: Callable[[Tensor], Tensor],
        start: Callable[[Tensor], None],
    ) -> None:
        """`encode` maps item numbers [B] to vectors [B, E]; `start` fits the head to the table [N, E]."""
        self.module = tower.text
        self.optimisation = config.optimisation().model_copy(update={"chosen_among": "phase"})
        self._tower = tower
        self._config = config
        self._lengths = lengths
        self._encode = encode
        self._start = start

    @torch.no_grad()
    def steps(self, epoch: int) -> Steps:
        """Returns the batches of an epoch; the head is fitted before the first of them."""
        if self._tower.begin(2):
            self._start(self._tower.table.vectors())
        return text_steps(self._lengths, self._config, epoch)

    def loss(self, batch: TextBatch) -> dict[str, Mean]:
        """Returns the weighted divergence of the similarities, and 1 - cosine."""
        temperature = self._config.temperature
        with torch.no_grad():
            table = self._tower.table.vectors()
            rows = table[batch.items - 1]
            wanted = (rows @ table.T / temperature).log_softmax(1)
        vectors = self._encode(batch.items)
        found = (vectors @ table.T / temperature).log_softmax(1)
        divergence = F.kl_div(found, wanted, reduction="batchmean", log_target=True)
        cosine = (vectors * rows).sum(1).mean()
        return {
            "similarities": Mean(temperature * divergence, len(batch)),
            "direction": Mean(1 - cosine, len(batch)),
        }


def fit_head(head: nn.Linear, vectors: Tensor, table: Tensor) -> None:
    """Sets a linear layer to the ridge regression of the table on the model's vectors.

    Shapes: vectors [N, E], table [N, E'].
    """
    x, y = vectors.double(), table.double()
    mean, target = x.mean(0), y.mean(0)
    x = x - mean
    product = x.T @ x
    ridge = _RIDGE * product.trace() / len(product)
    ridge = ridge.clamp(min=torch.finfo(ridge.dtype).tiny)
    eye = torch.eye(len(product), dtype=product.dtype, device=product.device)
    weight = torch.linalg.solve(product + ridge * eye, x.T @ (y - target))  # [E, E']
    head.weight.copy_(weight.T)
    head.bias.copy_(target - mean @ weight)
