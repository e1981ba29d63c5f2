"""The tokens by which IDs of the catalogue go on, as what a recommender learns to choose among."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from seqloom.core.phase import Mean
from seqloom.llm.generation.prefix_tree import PrefixTree


@dataclass(frozen=True)
class Branches:
    """The path of each item through the tree of IDs.

    The product of the probabilities along a path, each among the siblings of a node, is that of
    `BranchLikelihood`: those of all items add up to one. Its cross-entropy is the exact softmax over the
    catalogue, at the cost of a few tokens.
    """

    tree: PrefixTree
    nodes: Tensor
    """[N + 1, T] int64, the node before each token of an item's ID; -1 where the token is padding."""
    places: Tensor
    """[N + 1, T] int64, the number of the token among those that the tree allows at that node."""

    @classmethod
    def of(cls, table: Tensor) -> Self:
        """Finds the paths of IDs. Shapes: table [N + 1, T] output numbers, row 0 PAD."""
        tree = PrefixTree.build(table[1:]).to(table.device)
        paths = tree.paths(table)
        before = torch.where(paths >= 0, torch.cat([0 * paths[:, :1], paths[:, :-1]], 1), -1)
        places = paths - tree.first_child[before.clamp(min=0)]
        return cls(tree, before, places.masked_fill(paths < 0, 0))

    def of_items(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Returns nodes and places of all tokens of the items' IDs, one after the other.

        Shapes: items [...] item numbers, 0 where padded -> two of [M].
        """
        nodes = self.nodes[items]
        real = nodes >= 0
        return nodes[real], self.places[items][real]

    def loss(self, logits: Tensor, nodes: Tensor, places: Tensor) -> Mean:
        """Returns the cross-entropy of each token among its siblings; the mean is over tokens with any.

        Shapes: logits [M, V'], nodes and places [M].
        """
        count = self.tree.num_children[nodes]
        width = int(count.max()) if len(count) else 1
        offset = torch.arange(width, device=nodes.device)
        children = (self.tree.first_child[nodes][:, None] + offset).clamp(
            max=len(self.tree.token) - 1
        )
        allowed = offset < count[:, None]  # [M, C]
        scores = logits.gather(1, self.tree.token[children]).masked_fill(~allowed, -torch.inf)
        chosen = count > 1
        precise = scores.to(torch.promote_types(scores.dtype, torch.float32))
        value = F.cross_entropy(precise, places, reduction="sum")
        return Mean(value / chosen.sum().clamp(min=1), chosen.sum())
