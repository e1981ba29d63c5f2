"""MELT: head users and head items teach two branches how to complete tail ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from seqloom.core.phase import Phase
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.melt.config import MELTConfig
from seqloom.systems.melt.head import Head
from seqloom.systems.melt.model import MELTModel
from seqloom.systems.melt.phase import BranchPhase, JointPhase
from seqloom.systems.sequence import RankingPhase
from seqloom.systems.tail_blend import BlendPhase, blended, mean_state


class MELT(MELTModel):
    """A linear map turns the state of a short history into that of a long one; another maps the mean
    state before a rare item to the item's vector.

    Source: Kim et al., SIGIR 2023, sections 3.2 to 3.4.
    Differs: the output of the branches is blended with what was trained, by k / (count + k), with the k of
    items and of users chosen on the validation part, 0 included; the authors replace tail rows and add to
    tail states whatever the effect. A blended row keeps its mean score, that is the item's own
    popularity, and inferred rows get the centre and radius of trained ones (`tail_blend`). Rows are blended
    after training. A state's count is the length of its history, so no user is tail or head at inference;
    the training part decides who teaches, as in the groups of an evaluation.
    The user branch starts as the identity, the item branch as the best linear map for the head items, since
    states and rows differ in scale. Targets are constants, states of both branches' losses are those
    of evaluation mode, and the item branch's loss is a share of the table's variance. The item branch reads
    states that have not passed the user branch. An item's contexts end before it, so that its own vector
    is no part of its estimate. The branches learn on the trained backbone first, and train with it after
    their blends are chosen, so that validation compares the base, the blends and the joint training.
    """

    name: ClassVar[str] = "melt"
    config_class: ClassVar[type[MELTConfig]] = MELTConfig

    def __init__(self, config: MELTConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self._head: Head | None = None

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """Returns the backbone's phase, a phase and a blend for each branch, and the joint phase."""
        self._head = head = Head(data.dataset, self.config.seed, self.max_len)
        return [
            RankingPhase(self, data),
            BranchPhase(self, head, "users"),
            BlendPhase("user blend", self, "user_blend"),
            BranchPhase(self, head, "items"),
            BlendPhase("item blend", self, "item_blend"),
            JointPhase(self, data, head),
        ]

    def item_vectors(self) -> Tensor:
        """Returns the item table; in evaluation mode, with blended tail rows. Shapes: [N, D]."""
        if self.training or self._head is None or not float(self.item_blend):
            return self.items
        with torch.no_grad():
            return self._complete_tail(self._head)

    def finish(self) -> None:
        """Stores the blended tail rows in the item table."""
        self.eval()
        with torch.no_grad():
            self.items.copy_(self.item_vectors())
        self._head = None

    def _complete_tail(self, head: Head) -> Tensor:
        """Returns the item table with blended tail rows. Shapes: -> [N, D]."""
        table, rows = self.items.clone(), self._rows(head.tail_items)
        if not len(rows):
            return table
        inferred = self.item_branch(self.context_means(head, head.tail_items))
        counts = head.tail_counts.to(table.device)
        centre = mean_state(head.train, self._encode)
        table[rows] = blended(table[rows], inferred, counts, self.item_blend, centre)
        return table
