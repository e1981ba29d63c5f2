"""MELT: head users and head items teach two branches how to complete tail ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from seqloom.core.config import Config
from seqloom.core.phase import Optimisation, Phase
from seqloom.data.sequences import Sequences
from seqloom.nn.ridge import fit_ridge
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.id_only import IDConfig, IDSystem
from seqloom.systems.melt.phase import JointPhase
from seqloom.systems.sequence import RankingPhase

_ENCODED_AT_ONCE = 512
_FEWEST_FITTED = 2


class JointConfig(Config):
    """The second phase: backbone and branches together."""

    epochs: int = Field(60, ge=0)
    """Most epochs; 0 leaves the backbone as it is."""
    learning_rate: float = Field(5e-4, gt=0)
    """Peak step size of AdamW."""
    patience: int | None = Field(5, ge=1)
    """Validations without improvement before training stops."""
    user_weight: float = Field(0.1, ge=0)
    """lambda_U, weight of the user branch's loss. Source: the authors' setting for Beauty."""
    item_weight: float = Field(0.4, ge=0)
    """lambda_I, weight of the item branch's loss. Source: the authors' setting for Beauty."""


class MELTConfig(IDConfig):
    """MELT over any encoder; the first phase trains the backbone as the ID-only system is."""

    joint: JointConfig = Field(default_factory=JointConfig)
    """The second phase."""

    def joint_optimisation(self) -> Optimisation:
        """The settings of the second phase."""
        return self.optimisation().model_copy(
            update={
                "epochs": self.joint.epochs,
                "learning_rate": self.joint.learning_rate,
                "patience": self.joint.patience,
            }
        )


class MELT(IDSystem[MELTConfig]):
    """A linear map turns the state of a short history into that of a long one, another the mean
    state before a rare item into the item's vector.

    Source: Kim et al., SIGIR 2023, sections 3.2 to 3.4.
    Differs: the user branch starts as the identity, so that nothing changes before it has learnt, the item
    branch as the best linear map for the head items of the trained backbone, since states and rows differ
    in size; targets are constants; tail users' states are the map's output, which is what it is trained
    on (the authors' code adds the state again); an item's contexts end before it, so that its own
    vector is no part of its estimate; tail rows are rewritten from the second joint epoch on.
    """

    name: ClassVar[str] = "melt"
    config_class: ClassVar[type[MELTConfig]] = MELTConfig
    user_threshold: Tensor
    rewritten: Tensor

    def __init__(self, config: MELTConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        width = config.encoder.hidden_size
        self.user_branch = nn.Linear(width, width)
        self.item_branch = nn.Linear(width, width)
        for branch in (self.user_branch, self.item_branch):
            nn.init.eye_(branch.weight)
            nn.init.zeros_(branch.bias)
        self.register_buffer("user_threshold", torch.tensor(0))
        # The epoch prepared last. Part of the state, so that a resumed one is not prepared again.
        self.register_buffer("rewritten", torch.tensor(-1))

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """The backbone, then backbone and branches."""
        joint = JointPhase(self, data)
        # A history that fills what the encoder reads is a long one, whatever was cut off.
        self.user_threshold.fill_(min(joint.user_threshold, self.max_len))
        return [RankingPhase(self, data), joint]

    def plain_queries(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """The backbone's states. Shapes: items [B, L], lengths [B], vectors [N, D] -> [B, D]."""
        return super().queries(items, lengths, vectors)

    def queries(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """The backbone's states; those of tail users go through the user branch.

        Shapes: items [B, L], lengths [B], vectors [N, D] -> [B, D].
        """
        states = self.plain_queries(items, lengths, vectors)
        tail = lengths < self.user_threshold
        return torch.where(tail[:, None], self.user_branch(states), states)

    @torch.no_grad()
    def fit_item_branch(self, items: Tensor, contexts: Sequences, owner: Tensor) -> None:
        """Start the item branch as the best linear map from mean states to some items' rows.

        Shapes: items [T] item numbers, contexts C rows, owner [C] places in `items`.
        """
        if len(items) < _FEWEST_FITTED:
            return
        states = self._mean_states(contexts, owner, len(items))
        found = fit_ridge(states, self.items[items.to(states.device) - 1])
        self.item_branch.weight.copy_(found.weight.t())
        self.item_branch.bias.copy_(found.bias)

    @torch.no_grad()
    def rewrite_rows(self, items: Tensor, contexts: Sequences, owner: Tensor) -> None:
        """Put what the item branch makes of their contexts in place of some items' rows.

        Shapes: items [T] item numbers, contexts C rows, owner [C] places in `items`.
        """
        states = self._mean_states(contexts, owner, len(items))
        self.items[items.to(states.device) - 1] = self.item_branch(states)

    def _mean_states(self, contexts: Sequences, owner: Tensor, count: int) -> Tensor:
        """Mean state of the contexts of each item. Shapes: contexts C rows, owner [C] -> [count, D]."""
        self.eval()
        device = self.items.device
        sums = torch.zeros(count, self.items.shape[1], device=device)
        for rows in torch.argsort(contexts.lengths, stable=True).split(_ENCODED_AT_ONCE):
            batch = contexts.select(rows).pad(self.max_len).to(device)
            states = self.queries(batch.items, batch.lengths, self.items)
            sums.index_add_(0, owner[rows].to(device), states.to(sums.dtype))
        counts = torch.bincount(owner, minlength=count).to(device)
        return sums / counts[:, None]
