"""The common base of systems over a sequence encoder: configuration, ranking phase, scorer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqloom.backbones.base import SequenceEncoder
from seqloom.backbones.factory import build_backbone
from seqloom.core.errors import ConfigError
from seqloom.core.phase import Mean, Phase, Steps
from seqloom.core.protocols import Scorer
from seqloom.data.batches import (
    TrainingBatch,
    TrainingRows,
    plan_epoch,
    training_rows,
)
from seqloom.nn.attention import last_position
from seqloom.nn.item_product import ItemProduct
from seqloom.nn.repeats import RepeatTerm
from seqloom.systems.base import Sizes, System, TrainingData
from seqloom.systems.base_config import SequenceConfig
from seqloom.systems.ranking_loss import RankingLoss
from seqloom.systems.repeat_scores import RepeatScorer
from seqloom.systems.seen_items import SeenItems

SequenceConfigT = TypeVar("SequenceConfigT", bound=SequenceConfig)


class SequenceSystem(System[SequenceConfigT], Generic[SequenceConfigT]):
    """A system whose score is the dot product of a history's state and an item's vector."""

    encoder: SequenceEncoder

    def __init__(self, config: SequenceConfigT, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.encoder = build_backbone(config.encoder)
        self.repeats = RepeatTerm() if config.repeat == "learned" else None
        self.mask_vector: nn.Parameter | None = None
        if self.encoder.uses_mask:
            self.mask_vector = nn.Parameter(torch.randn(self.input_size) * 0.02)

    @property
    def vector_size(self) -> int:
        """D', the width of the item vectors."""
        return self.config.encoder.hidden_size

    @property
    def input_size(self) -> int:
        """The width of the vectors that enter the encoder, D' unless a part of the score passes it by."""
        return self.vector_size

    @property
    def mask_item(self) -> int:
        """The item number that stands for [MASK]."""
        return self.sizes.num_items + 1

    @property
    def max_len(self) -> int:
        """The longest history that the encoder reads."""
        return self.encoder.max_len

    @abstractmethod
    def item_vectors(self) -> Tensor:
        """Returns the output vector of every item, row j for item number j + 1. Shapes: [N, D']."""

    @abstractmethod
    def states(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """Returns the state at every position, given the result of `item_vectors`; items may be [MASK].

        Shapes: items [B, L], lengths [B], vectors [N, D'] -> [B, L, D'].
        """

    def ranked_vectors(self) -> Tensor:
        """Returns the item vectors of the ranking loss: those of the whole score. Shapes: [N, D']."""
        return self.item_vectors()

    def ranked_states(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """Returns the states of the ranking loss, given the result of `ranked_vectors`.

        Shapes: items [B, L], lengths [B], vectors [N, D'] -> [B, L, D'].
        """
        return self.states(items, lengths, vectors)

    def embed(self, items: Tensor, vectors: Tensor) -> Tensor:
        """Looks up the vectors of a batch's items; those of padding are arbitrary.

        Shapes: items [B, L], vectors [N, D'] -> [B, L, D'].
        """
        rows = F.embedding((items - 1).clamp(0, len(vectors) - 1), vectors)
        if self.mask_vector is None:
            return rows
        return torch.where((items == self.mask_item)[..., None], self.mask_vector, rows)

    def queries(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """Returns the state that ranks the next item of each history.

        Shapes: items [B, L], lengths [B], vectors [N, D'] -> [B, D'].
        """
        items, lengths = self.encoder.as_query(items, lengths, self.mask_item)
        return last_position(self.states(items, lengths, vectors), lengths)

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Returns one phase, which trains on the targets that the encoder chooses."""
        return [RankingPhase(self, data)]

    def scorer(self) -> Scorer:
        """Returns a scorer with fixed item vectors; it encodes histories on request."""
        return self.vector_scorer()

    def vector_scorer(self, item_vectors: Tensor | None = None) -> Scorer:
        """Returns a scorer over these item vectors, by default the system's own. Shapes: [N', D']."""
        scorer = DotProductScorer(self, item_vectors)
        return scorer if self.repeats is None else RepeatScorer(scorer, self.repeats)

    def repeat_terms(self, batch: TrainingBatch) -> tuple[Tensor, Tensor] | None:
        """Returns the terms of the items before each target; see `RepeatTerm`. Shapes: -> two of [M, L]."""
        if self.repeats is None:
            return None
        items, length = batch.inputs.items, batch.inputs.items.shape[1]
        # A masked item is predicted at its own place, a next item at the place before it.
        ends = batch.places % length + (0 if self.encoder.uses_mask else 1)
        known = torch.where(items <= self.sizes.num_items, items, 0)  # without [MASK]
        terms: tuple[Tensor, Tensor] = self.repeats(known, batch.places // length, ends)
        return terms

    @property
    def replays(self) -> bool:
        """Whether `extra_losses` reads nothing but tensors of the batch and the system; see `Phase`."""
        return True

    def extra_losses(self, batch: TrainingBatch, states: Tensor) -> dict[str, Mean]:
        """Returns further weighted losses by name. Shapes: states [B, L, D']."""
        return {}

    def begin_epoch(self, epoch: int) -> None:
        """Runs before the batches of an epoch are cut."""


class RankingPhase:
    """Trains a sequence system to rank its targets first: next items, or masked items.

    The encoder chooses the targets (`SequenceEncoder.training_batches`).
    """

    name = "train"
    validated = True

    def __init__(
        self, system: SequenceSystem[SequenceConfigT], data: TrainingData, name: str | None = None
    ) -> None:
        self.name = name or self.name
        config = system.config
        self.module = system
        self.optimisation = config.optimisation()
        self.rows: TrainingRows = training_rows(
            data.dataset.train, system.max_len, config.long_histories
        )
        device = next(system.parameters()).device
        self.ranking = RankingLoss(config.loss, data.dataset.popularity, data.processes).to(device)
        self.seen = None
        if config.loss.avoids_seen:
            self.seen = SeenItems(data.dataset.train, system.sizes.num_items)
            _check_unseen(self.seen.counts[self.rows.users], system.sizes.num_items)

    @property
    def replays(self) -> bool:
        """Whether steps can be recorded: with the softmax over the catalogue, which ignores padding."""
        return self.module.config.loss.kind == "softmax" and self.module.replays

    def steps(self, epoch: int) -> Steps:
        """Returns the batches of an epoch."""
        self.module.begin_epoch(epoch)
        config = self.module.config
        plan = plan_epoch(self.rows, config.batch_size, config.seed, self.name, epoch)
        encoder, mask_item = self.module.encoder, self.module.mask_item
        return encoder.training_batches(plan, mask_item, config.seed, epoch)

    def loss(self, batch: TrainingBatch) -> dict[str, Mean]:
        """Returns the ranking loss over all positions with a target, and the system's further losses."""
        vectors = self.module.ranked_vectors()
        states = self.module.ranked_states(batch.inputs.items, batch.inputs.lengths, vectors)
        hidden, targets = batch.at_targets(states)
        hidden = self.module.encoder.output_dropout(hidden)
        seen = self._seen(batch)
        terms = self.module.repeat_terms(batch)
        rank = self.ranking(hidden, vectors, targets - 1, seen, terms, padded=batch.has_gaps)
        extra = self.module.extra_losses(batch, states)
        return {"rank": Mean(rank, batch.num_targets), **extra}

    def _seen(self, batch: TrainingBatch) -> Tensor | None:
        """Returns the seen items of each target's user, if the loss needs them. Shapes: -> [M, S]."""
        if self.seen is None:
            return None
        seen = self.seen.of(self.rows.users[batch.rows]).to(batch.places.device)
        return seen[batch.places // batch.targets.shape[1]]


def _check_unseen(counts: Tensor, num_items: int) -> None:
    """Checks that each user, with `counts` distinct items, leaves an item as a negative."""
    if len(counts) and int(counts.max()) == num_items:
        raise ConfigError(
            f"a user has all {num_items} items in the training part, so no item is left as a negative; "
            "set loss.seen_negatives=true, or choose loss.kind=softmax"
        )


class DotProductScorer:
    """Scores by dot products. Switches the system to evaluation mode; valid until it is trained further."""

    def __init__(
        self, system: SequenceSystem[SequenceConfigT], item_vectors: Tensor | None = None
    ) -> None:
        self._system = system.eval()
        with torch.inference_mode():
            self.item_vectors = system.item_vectors() if item_vectors is None else item_vectors
        self.num_items = len(self.item_vectors)
        self.score_queries = ItemProduct(self.item_vectors)

    def queries(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Returns the state after each history. Shapes: [B, L], [B] -> [B, D']."""
        return self._system.queries(items, lengths, self.item_vectors)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Scores the catalogue. Shapes: [B, L], [B] -> [B, N]."""
        return self.score_queries(self.queries(items, lengths))
