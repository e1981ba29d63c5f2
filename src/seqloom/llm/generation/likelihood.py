"""What a token of an ID costs: its log-probability among all output tokens, or among the tree's branches."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from seqloom.llm.generation.prefix_tree import PrefixTree
from seqloom.nn.linear import padded_linear

_ROWS_AT_ONCE = {"cpu": 128, "cuda": 16_384}
"""States whose scores of all tokens are held together; few fit a processor's cache."""


class Likelihood(Protocol):
    """Log-probabilities of the tokens below nodes of a tree, given the states at the nodes."""

    forced_cost: bool
    """Whether a token counts where there is no other choice."""

    def children(self, states: Tensor, nodes: Tensor, width: int) -> Tensor:
        """Of the children of each node; what stands beyond the last child means nothing.

        Shapes: states [n, D], nodes [n] -> [n, width].
        """

    def forced(self, states: Tensor, nodes: Tensor) -> Tensor:
        """Of the one child of each node. Shapes: states [n, D], nodes [n] -> [n]."""


class VocabularyLikelihood:
    """Probabilities over all output tokens: the likelihood of the text, as the model was trained."""

    forced_cost = True

    def __init__(self, tree: PrefixTree, head: Tensor) -> None:
        """`head` [V', D] gives a token's score."""
        self._tree, self._head = tree, head

    def children(self, states: Tensor, nodes: Tensor, width: int) -> Tensor:
        """See `Likelihood`."""
        places = torch.arange(width, device=nodes.device)
        children = self._tree.first_child[nodes][:, None] + places
        return self._of(states, self._tree.token[children.clamp(max=len(self._tree.token) - 1)])

    def forced(self, states: Tensor, nodes: Tensor) -> Tensor:
        """See `Likelihood`."""
        return self._of(states, self._tree.token[self._tree.first_child[nodes]][:, None])[:, 0]

    def _of(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Shapes: states [n, D], tokens [n, C] -> [n, C]."""
        size = _ROWS_AT_ONCE.get(states.device.type, _ROWS_AT_ONCE["cpu"])
        parts = [
            log_probabilities(some, self._head).gather(1, wanted.clamp(min=0))
            for some, wanted in zip(states.split(size), tokens.split(size), strict=True)
        ]
        return torch.cat(parts)


class BranchLikelihood:
    """Probabilities over the tokens that the tree allows: those of all items add up to one.

    The same as the library's `generate` with `renormalize_logits=True`. A token without alternative is
    certain, so an ID is decided by the few tokens at which the tree branches.
    """

    forced_cost = False

    def __init__(self, tree: PrefixTree, head: Tensor) -> None:
        """`head` [V', D] gives a token's score."""
        self._tree, self._head = tree, head

    def children(self, states: Tensor, nodes: Tensor, width: int) -> Tensor:
        """See `Likelihood`."""
        tree = self._tree
        places = torch.arange(width, device=nodes.device)
        if bool((nodes == nodes[:1]).all()):  # one node for all, such as the root: one product
            first = int(tree.first_child[nodes[0]])
            own = tree.token[first : first + int(tree.num_children[nodes[0]])]
            found = (states @ self._head[own].t()).float().log_softmax(1)
            return torch.nn.functional.pad(found, (0, width - len(own)), value=float("-inf"))
        row, place = torch.nonzero(places < tree.num_children[nodes][:, None], as_tuple=True)
        tokens = tree.token[tree.first_child[nodes[row]] + place]
        scores = torch.full((len(nodes), width), float("-inf"), device=nodes.device)
        scores[row, place] = torch.einsum("nd,nd->n", states[row], self._head[tokens]).float()
        return scores.log_softmax(1)

    def forced(self, states: Tensor, nodes: Tensor) -> Tensor:
        """See `Likelihood`."""
        return torch.zeros(len(nodes), device=states.device)


def log_probabilities(states: Tensor, head: Tensor) -> Tensor:
    """Log-probabilities of all output tokens. Shapes: [..., D], [V', D] -> [..., V']."""
    return padded_linear(states, head).float().log_softmax(-1)
