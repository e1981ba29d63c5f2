"""Length penalty: scores of sequences divided by a power of their lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from seqloom.llm.generation.prefix_tree import PrefixTree


@dataclass(frozen=True)
class LengthPenalty:
    """Divisors of log-likelihoods: the number of tokens, end mark included, to a power.

    Source: Wu et al., arXiv 1609.08144, section 7, in the form of transformers' `length_penalty`.
    """

    items: Tensor
    """[N + 1], divisor of each item number; entry 0 is 1."""
    nodes: Tensor
    """[nodes], largest divisor of the items at or below each node."""

    @classmethod
    def build(cls, tree: PrefixTree, power: float) -> Self | None:
        """Builds the divisors of a tree; None for power 0, which changes no score.

        Shapes: see the fields.
        """
        if power == 0:
            return None
        nodes = len(tree.token)
        device = tree.token.device
        parents = torch.repeat_interleave(torch.arange(nodes, device=device), tree.num_children)
        depth = torch.zeros(nodes, device=device)
        # Each pass settles the depth of one more level.
        while True:
            deeper = torch.cat([depth[:1], depth[parents] + 1])
            if torch.equal(deeper, depth):
                break
            depth = deeper
        below = depth.clone()  # the deepest leaf at or below each node, from the bottom level up
        for level in range(int(depth.max()), 0, -1):
            at = torch.nonzero(depth[1:] == level).flatten()
            below.scatter_reduce_(0, parents[at], below[at + 1], "amax")
        items = torch.ones(tree.num_items + 1, device=device)
        leaves = torch.nonzero(tree.num_children == 0).flatten()
        items[tree.item[tree.first_leaf[leaves]]] = depth[leaves]
        return cls(items**power, below.clamp(min=1) ** power)

    def final(self, scores: Tensor, items: Tensor) -> Tensor:
        """Divides scores of finished sequences. Shapes: scores [...] log-likelihoods, items [...] numbers."""
        return scores / self.items[items]

    def bound(self, scores: Tensor, nodes: Tensor) -> Tensor:
        """Returns an upper bound on the scores of sequences below `nodes`: log-likelihoods only fall.

        Shapes: scores [...] log-likelihoods up to the nodes, nodes [...].
        """
        return scores / self.nodes[nodes]
