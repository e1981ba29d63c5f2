"""What all systems over a sequence encoder share: configuration, the ranking phase, the scorer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Generic, Literal, TypeVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from seqloom.backbones.base import SequenceEncoder
from seqloom.backbones.config import AnyEncoderConfig, SASRecEncoderConfig
from seqloom.backbones.factory import build_backbone
from seqloom.core.phase import Mean, Optimisation, Phase, Schedule, Steps
from seqloom.data.batches import (
    LongHistories,
    TrainingBatch,
    TrainingRows,
    plan_epoch,
    training_rows,
)
from seqloom.nn.attention import last_position
from seqloom.systems.base import Sizes, System, SystemConfig, TrainingData
from seqloom.systems.ranking_loss import LossConfig, RankingLoss
from seqloom.systems.seen_items import SeenItems

_PATIENCE = {"softmax": 10, "sampled-softmax": 10, "bce": 20, "gbce": 20}
"""Validations without improvement by kind of loss: docs/guides/experiments.md, "When training stops"."""


class SequenceConfig(SystemConfig):
    """Keys of every system over a sequence encoder."""

    epochs: int = Field(200, ge=0)
    """Most epochs; early stopping usually ends sooner."""
    batch_size: int = Field(128, ge=1)
    """Histories in a batch."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak step size of AdamW."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the step size rises from 0."""
    schedule: Schedule = "constant"
    """Course of the step size after warm-up; cosine falls to 0 at the last of all `epochs`."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of all gradients together."""
    averaging: float | None = Field(5.0, ge=1)
    """What is validated and kept is a mean of the weights that training passes through, in which step t
    weighs about t to this power less one; null keeps the weights as they are. Source: Karras et al. 2024."""
    patience: Annotated[int, Field(ge=1)] | Literal["auto"] | None = "auto"
    """Validations without improvement before training stops. auto: 10 with softmax and sampled-softmax, 20
    with bce and gbce, under which validation can fall for ten epochs before it rises; null: never."""
    long_histories: LongHistories = "windows"
    """A history longer than encoder.max_len is cut into windows, or only its last part is used."""
    loss: LossConfig = Field(default_factory=LossConfig)
    """The ranking loss."""
    encoder: AnyEncoderConfig = Field(default_factory=SASRecEncoderConfig)
    """The sequence encoder."""

    def optimisation(self) -> Optimisation:
        """The settings of the ranking phase."""
        patience = self.patience
        if patience == "auto":
            patience = _PATIENCE[self.loss.kind]
        own = self.model_dump(include=set(Optimisation.model_fields) - {"patience"})
        return Optimisation(**own, patience=patience)


SequenceConfigT = TypeVar("SequenceConfigT", bound=SequenceConfig)


class SequenceSystem(System[SequenceConfigT], Generic[SequenceConfigT]):
    """A system whose score is the dot product of a history's state and an item's vector."""

    encoder: SequenceEncoder

    def __init__(self, config: SequenceConfigT, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.encoder = build_backbone(config.encoder)
        self.mask_vector: nn.Parameter | None = None
        if self.encoder.uses_mask:
            self.mask_vector = nn.Parameter(torch.randn(self.vector_size) * 0.02)

    @property
    def vector_size(self) -> int:
        """D', the width of an item's vectors."""
        return self.config.encoder.hidden_size

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
        """The output vector of every item, row j for item number j + 1. Shapes: [N, D']."""

    @abstractmethod
    def states(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """The state at every position, given what `item_vectors` returned; items may be [MASK].

        Shapes: items [B, L], lengths [B], vectors [N, D'] -> [B, L, D'].
        """

    def embed(self, items: Tensor, vectors: Tensor) -> Tensor:
        """The vectors of a batch's items; arbitrary where padded.

        Shapes: items [B, L], vectors [N, D'] -> [B, L, D'].
        """
        found = F.embedding((items - 1).clamp(0, len(vectors) - 1), vectors)
        if self.mask_vector is None:
            return found
        return torch.where((items == self.mask_item)[..., None], self.mask_vector, found)

    def queries(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """The state that ranks what comes after each history.

        Shapes: items [B, L], lengths [B], vectors [N, D'] -> [B, D'].
        """
        items, lengths = self.encoder.as_query(items, lengths, self.mask_item)
        return last_position(self.states(items, lengths, vectors), lengths)

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """One phase: predict items from their histories, as the encoder is trained to."""
        return [RankingPhase(self, data)]

    def scorer(self) -> DotProductScorer:
        """Item vectors computed once; histories are encoded when asked."""
        return DotProductScorer(self)

    def extra_losses(self, batch: TrainingBatch, states: Tensor) -> dict[str, Mean]:
        """Weighted losses beside the ranking loss, by name. Shapes: states [B, L, D']."""
        return {}

    def begin_epoch(self, epoch: int) -> None:
        """Called before the batches of an epoch are cut."""


class RankingPhase:
    """Trains a sequence system to rank its targets first: next items, or masked ones.

    Which items are targets is the encoder's choice (`SequenceEncoder.training_batches`).
    """

    name = "train"
    validated = True

    def __init__(self, system: SequenceSystem[SequenceConfigT], data: TrainingData) -> None:
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
            self.seen = SeenItems(data.dataset.train, self.rows.users, system.sizes.num_items)

    def steps(self, epoch: int) -> Steps:
        """The batches of an epoch."""
        self.module.begin_epoch(epoch)
        config = self.module.config
        plan = plan_epoch(self.rows, config.batch_size, config.seed, self.name, epoch)
        encoder, mask_item = self.module.encoder, self.module.mask_item
        return encoder.training_batches(plan, mask_item, config.seed, epoch)

    def loss(self, batch: TrainingBatch) -> dict[str, Mean]:
        """Ranking loss at every position with a target, and the system's own losses."""
        vectors = self.module.item_vectors()
        states = self.module.states(batch.inputs.items, batch.inputs.lengths, vectors)
        hidden, targets = batch.at_targets(states)
        hidden = self.module.encoder.output_dropout(hidden)
        seen = self.seen.of(batch) if self.seen is not None else None
        rank = self.ranking(hidden, vectors, targets - 1, seen)
        extra = self.module.extra_losses(batch, states)
        return {"rank": Mean(rank, batch.num_targets), **extra}


class DotProductScorer:
    """Scores of a sequence system. Made in evaluation mode; valid until the system is trained on."""

    def __init__(
        self, system: SequenceSystem[SequenceConfigT], item_vectors: Tensor | None = None
    ) -> None:
        self._system = system.eval()
        with torch.inference_mode():
            self.item_vectors = system.item_vectors() if item_vectors is None else item_vectors
        self.num_items = len(self.item_vectors)

    def queries(self, items: Tensor, lengths: Tensor) -> Tensor:
        """The state after each history. Shapes: [B, L], [B] -> [B, D']."""
        return self._system.queries(items, lengths, self.item_vectors)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Shapes: [B, L], [B] -> [B, N]."""
        return self.queries(items, lengths) @ self.item_vectors.t()
