"""Log-probabilities of an ID's tokens: over all output tokens, or over the branches of the prefix tree."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from seqloom.llm.generation.prefix_tree import PrefixTree
from seqloom.nn.linear import padded_linear

_ROWS_AT_ONCE = {"cpu": 128, "cuda": 16_384}
"""Number of states whose scores over all tokens are held at a time; on a CPU they fit the cache."""


class Likelihood(Protocol):
    """Gives the log-probabilities of tokens below tree nodes, given the states at the nodes."""

    forced_cost: bool
    """Whether a token without alternative has a log-probability other than 0."""

    def children(self, states: Tensor, nodes: Tensor, width: int) -> Tensor:
        """Returns log-probabilities of each node's children; undefined beyond the last child.

        Shapes: states [n, D], nodes [n] -> [n, width].
        """

    def forced(self, states: Tensor, nodes: Tensor) -> Tensor:
        """Returns log-probabilities of only children. Shapes: states [n, D], nodes [n] -> [n]."""


class VocabularyLikelihood:
    """Probabilities over all output tokens: the likelihood of the text that the model was trained on."""

    forced_cost = True

    def __init__(self, tree: PrefixTree, head: Tensor) -> None:
        """`head` [V', D] gives a token's score."""
        self._tree, self._head = tree, head

    def children(self, states: Tensor, nodes: Tensor, width: int) -> Tensor:
        """See `Likelihood`."""
        places = torch.arange(width, device=nodes.device)
        children = self._tree.first_child[nodes][:, None] + places
        return self._gather(states, self._tree.token[children.clamp(max=len(self._tree.token) - 1)])

    def forced(self, states: Tensor, nodes: Tensor) -> Tensor:
        """See `Likelihood`."""
        return self._gather(states, self._tree.token[self._tree.first_child[nodes]][:, None])[:, 0]

    def _gather(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Returns log-probabilities of some tokens of each state, in chunks of states.

        Shapes: states [n, D], tokens [n, C] -> [n, C].
        """
        size = _ROWS_AT_ONCE.get(states.device.type, _ROWS_AT_ONCE["cpu"])
        parts = [
            log_probabilities(chunk, self._head).gather(1, own.clamp(min=0))
            for chunk, own in zip(states.split(size), tokens.split(size), strict=True)
        ]
        return torch.cat(parts)


class BranchLikelihood:
    """Probabilities over the tokens that the tree allows, so that those of all items add up to one.

    Equals transformers' `generate` with `renormalize_logits=True`. A token without alternative has
    probability 1, so the few tokens at branching nodes decide an ID's score.
    """

    forced_cost = False

    def __init__(self, tree: PrefixTree, head: Tensor) -> None:
        """`head` [V', D] gives a token's score."""
        self._tree, self._head = tree, head

    def children(self, states: Tensor, nodes: Tensor, width: int) -> Tensor:
        """See `Likelihood`."""
        tree = self._tree
        places = torch.arange(width, device=nodes.device)
        if bool(
            (nodes == nodes[:1]).all()
        ):  # all at one node, such as the root: one matrix product
            first = int(tree.first_child[nodes[0]])
            own = tree.token[first : first + int(tree.num_children[nodes[0]])]
            scores = (states @ self._head[own].t()).float().log_softmax(1)  # [n, children]
            return torch.nn.functional.pad(scores, (0, width - len(own)), value=float("-inf"))
        # One dot product for each existing child; minus infinity keeps the others out of the softmax.
        row, place = torch.nonzero(places < tree.num_children[nodes][:, None], as_tuple=True)
        tokens = tree.token[tree.first_child[nodes[row]] + place]
        scores = torch.full((len(nodes), width), float("-inf"), device=nodes.device)
        scores[row, place] = torch.einsum("nd,nd->n", states[row], self._head[tokens]).float()
        return scores.log_softmax(1)

    def forced(self, states: Tensor, nodes: Tensor) -> Tensor:
        """See `Likelihood`."""
        return torch.zeros(len(nodes), device=states.device)


def log_probabilities(states: Tensor, head: Tensor) -> Tensor:
    """Returns log-probabilities of all output tokens. Shapes: [..., D], [V', D] -> [..., V']."""
    return padded_linear(states, head).float().log_softmax(-1)
