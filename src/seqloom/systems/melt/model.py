"""MELT's network: a backbone, a branch for users and a branch for items."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from seqloom.data.sequences import Sequences
from seqloom.nn.ridge import fit_ridge
from seqloom.systems.base import Sizes
from seqloom.systems.id_only import IDSystem
from seqloom.systems.melt.config import MELTConfig
from seqloom.systems.melt.head import Head
from seqloom.systems.tail_blend import blend_weight, encode_all

_FEWEST_FITTED = 2


class MELTModel(IDSystem[MELTConfig]):
    """The network of MELT: what its phases train."""

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
        # Longer histories bypass the user branch. Runs of earlier versions set a limit, others do not.
        self.register_buffer("user_threshold", torch.tensor(self.max_len + 1))
        # Whether the item branch has its start. In the state, so that a resumed phase does not repeat it.
        self.register_buffer("started", torch.tensor(0))
        self.register_buffer("user_blend", torch.tensor(0.0))
        self.register_buffer("item_blend", torch.tensor(0.0))
        self.register_load_state_dict_pre_hook(_read_earlier_versions)

    def plain_queries(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """Returns the backbone's states.

        Shapes: items [B, L], lengths [B], vectors [N, D] -> [B, D].
        """
        return super().queries(items, lengths, vectors)

    def queries(self, items: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """Returns the backbone's states, blended with the output of the user branch.

        Shapes: items [B, L], lengths [B], vectors [N, D] -> [B, D].
        """
        states = self.plain_queries(items, lengths, vectors)
        weight = blend_weight(lengths, self.user_blend) * (lengths < self.user_threshold)
        return states + weight[:, None] * (self.user_branch(states) - states)

    @torch.no_grad()
    def start_item_branch(self, head: Head) -> None:
        """Fits the item branch as the best linear map from head items' mean states to their rows."""
        if int(self.started):
            return
        self.started.fill_(1)
        self.eval()
        if len(head.items) < _FEWEST_FITTED:
            return
        fitted = fit_ridge(self.context_means(head, head.items), self.items[self._rows(head.items)])
        self.item_branch.weight.copy_(fitted.weight.t())
        self.item_branch.bias.copy_(fitted.bias)

    @torch.no_grad()
    def context_means(self, head: Head, items: Tensor) -> Tensor:
        """Returns the mean state of each item's contexts. Shapes: items [T] -> [T, D]."""
        owner, contexts = head.contexts(items, head.item_threshold, None)
        states = encode_all(contexts, self._encode)
        owner = owner.to(states.device)
        sums = states.new_zeros(len(items), states.shape[1]).index_add_(0, owner, states)
        return sums / torch.bincount(owner, minlength=len(items))[:, None]

    def _rows(self, items: Tensor) -> Tensor:
        return items.to(self.items.device) - 1

    def _encode(self, histories: Sequences) -> Tensor:
        """Returns states in evaluation mode, from the rows as trained. Shapes: R rows -> [R, D]."""
        assert not self.training
        batch = histories.pad(self.max_len).to(self.items.device)
        return self.plain_queries(batch.items, batch.lengths, self.items)


def _read_earlier_versions(_module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Reads a run without blends: its rows are final, and its user branch replaces short states."""
    if prefix + "rewritten" in state:
        state[prefix + "started"] = torch.tensor(1)
        del state[prefix + "rewritten"]
        state[prefix + "item_blend"] = torch.tensor(0.0)
        state[prefix + "user_blend"] = torch.tensor(math.inf)
