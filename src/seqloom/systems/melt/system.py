"""MELT: head users and head items teach two branches how to complete tail ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from seqloom.core.phase import Phase
from seqloom.data.sequences import Sequences
from seqloom.nn.ridge import fit_ridge
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.id_only import IDSystem
from seqloom.systems.melt.config import MELTConfig
from seqloom.systems.melt.phase import BranchPhase, Head, JointPhase
from seqloom.systems.sequence import RankingPhase
from seqloom.systems.tail_blend import BlendPhase, blend_weight, blended, encode_all, mean_state

_FEWEST_FITTED = 2


class MELT(IDSystem[MELTConfig]):
    """A linear map turns the state of a short history into that of a long one, another the mean
    state before a rare item into the item's vector.

    Source: Kim et al., SIGIR 2023, sections 3.2 to 3.4.
    Differs: what the branches infer is blended with what was trained, by k / (count + k), with the k of items
    and of users chosen on the validation part, 0 among them; the authors replace tail rows and add to
    tail states whatever that does. A blended row keeps its mean score, that is the item's own
    popularity, and inferred rows get the centre and radius of trained ones (`tail_blend`). Rows are blended
    once, after training. A state's count is the length of the history that is asked about, so nobody is
    tail or head when asked; who teaches is decided by the training part, as in the groups of an evaluation.
    The user branch starts as the identity, the item branch as the best linear map for the head items, since
    states and rows differ in size. Targets are constants, states of both branches' losses are those
    of evaluation mode, and the item branch's loss is a share of the table's variance. It reads states
    that have not gone through the user branch. An item's contexts end before it, so that its own vector
    is no part of its estimate. The branches learn on the trained backbone first, and train with it after
    their blends are chosen, so that validation compares the base, the blends and the joint training.
    """

    name: ClassVar[str] = "melt"
    config_class: ClassVar[type[MELTConfig]] = MELTConfig
    user_threshold: Tensor
    started: Tensor
    user_blend: Tensor
    item_blend: Tensor

    def __init__(self, config: MELTConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        width = config.encoder.hidden_size
        with torch.random.fork_rng(devices=[]):  # the item table is drawn as the ID-only system's
            self.user_branch = nn.Linear(width, width)
            self.item_branch = nn.Linear(width, width)
        for branch in (self.user_branch, self.item_branch):
            nn.init.eye_(branch.weight)
            nn.init.zeros_(branch.bias)
        # A longer history goes past the user branch; runs of earlier versions know a limit, others have none.
        self.register_buffer("user_threshold", torch.tensor(self.max_len + 1))
        # Whether the item branch has its start. In the state, so that a resumed phase does not repeat it.
        self.register_buffer("started", torch.tensor(0))
        self.register_buffer("user_blend", torch.tensor(0.0))
        self.register_buffer("item_blend", torch.tensor(0.0))
        self.register_load_state_dict_pre_hook(_of_earlier_versions)
        self._head: Head | None = None

    def phases(self, data: TrainingData) -> Sequence[Phase]:
        """The backbone; each branch, and how far it is followed; then all together."""
        self._head = head = Head(self, data)
        return [
            RankingPhase(self, data),
            BranchPhase(self, head, "users"),
            BlendPhase("user blend", self, "user_blend"),
            BranchPhase(self, head, "items"),
            BlendPhase("item blend", self, "item_blend"),
            JointPhase(self, data, head),
        ]

    def item_vectors(self) -> Tensor:
        """The item table; when ranking, with tail rows as far as they are blended. Shapes: [N, D]."""
        if self.training or self._head is None or not float(self.item_blend):
            return self.items
        with torch.no_grad():
            return self._completed(self._head)

    def finish(self) -> None:
        """Blend the tail rows for good."""
        self.eval()
        with torch.no_grad():
            self.items.copy_(self.item_vectors())
        self._head = None

    def plain_queries(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """The backbone's states. Shapes: items [B, L], lengths [B], vectors [N, D] -> [B, D]."""
        return super().queries(items, lengths, vectors)

    def queries(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """The backbone's states, blended with what the user branch makes of them.

        Shapes: items [B, L], lengths [B], vectors [N, D] -> [B, D].
        """
        states = self.plain_queries(items, lengths, vectors)
        weight = blend_weight(lengths, self.user_blend) * (lengths < self.user_threshold)
        return states + weight[:, None] * (self.user_branch(states) - states)

    @torch.no_grad()
    def start_item_branch(self, head: Head) -> None:
        """Start the item branch as the best linear map from head items' mean states to their rows."""
        if int(self.started):
            return
        self.started.fill_(1)
        self.eval()
        if len(head.items) < _FEWEST_FITTED:
            return
        found = fit_ridge(self.context_means(head, head.items), self.items[self._rows(head.items)])
        self.item_branch.weight.copy_(found.weight.t())
        self.item_branch.bias.copy_(found.bias)

    @torch.no_grad()
    def context_means(self, head: Head, items: Tensor) -> Tensor:
        """The mean state of the contexts of each item. Shapes: items [T] -> [T, D]."""
        owner, contexts = head.contexts(items, head.item_threshold, None)
        states = encode_all(contexts, self._encode)
        owner = owner.to(states.device)
        sums = states.new_zeros(len(items), states.shape[1]).index_add_(0, owner, states)
        return sums / torch.bincount(owner, minlength=len(items))[:, None]

    def _completed(self, head: Head) -> Tensor:
        table, rows = self.items.clone(), self._rows(head.tail_items)
        if not len(rows):
            return table
        inferred = self.item_branch(self.context_means(head, head.tail_items))
        counts = head.tail_counts.to(table.device)
        centre = mean_state(head.train, self._encode)
        table[rows] = blended(table[rows], inferred, counts, self.item_blend, centre)
        return table

    def _rows(self, items: Tensor) -> Tensor:
        return items.to(self.items.device) - 1

    def _encode(self, histories: Sequences) -> Tensor:
        """States in evaluation mode by the rows as they were trained. Shapes: R rows -> [R, D]."""
        assert not self.training
        batch = histories.pad(self.max_len).to(self.items.device)
        return self.plain_queries(batch.items, batch.lengths, self.items)


def _of_earlier_versions(_module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Read a run that has no blends: its rows are final, and its user branch replaces short states."""
    if prefix + "rewritten" in state:
        state[prefix + "started"] = torch.tensor(1)
        del state[prefix + "rewritten"]
        state[prefix + "item_blend"] = torch.tensor(0.0)
        state[prefix + "user_blend"] = torch.tensor(math.inf)
