"""A prefix tree of token sequences, held in flat arrays.

Nodes are numbered by depth and, within a depth, in lexicographic order of the sequences. So the children
of a node are one range of nodes, and the sequences below it one range of leaves. No code walks the tree
node by node in Python.

A node with one child leaves no choice: the next token is forced. A chain of such nodes is a *run*. It ends
at a branching node or at a leaf, and a search takes it in one step.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from torch import Tensor

from seqloom.core.errors import ConfigError

PAD = -1
"""Padding after the end of a token sequence."""


@dataclass(frozen=True)
class PrefixTree:
    """Prefix tree of items: node 0 is the root, and each item's sequence ends in its own leaf."""

    token: Tensor
    """[nodes] int64, the token that leads to the node; PAD for the root."""
    first_child: Tensor
    """[nodes] int64."""
    num_children: Tensor
    """[nodes] int64, 0 for a leaf."""
    first_leaf: Tensor
    """[nodes] int64, the first leaf at or below the node, counted in lexicographic order."""
    end_leaf: Tensor
    """[nodes] int64, one past the last leaf at or below the node."""
    item: Tensor
    """[N] int64, the item number of each leaf."""
    leaf: Tensor
    """[N + 1] int64, the leaf of each item number; entry 0 is N, a leaf that is below no node."""
    run: Tensor
    """[nodes] int64, number of nodes of the run from the node, both ends included."""
    end: Tensor
    """[nodes] int64, the node at which the run ends; the node itself if it is a leaf or branches."""

    @classmethod
    def build(cls, sequences: Tensor) -> Self:
        """Builds the tree of `sequences`; row j belongs to item number j + 1.

        Raises:
            ConfigError: a row is empty, two rows are equal, or one is a prefix of another.

        Shapes: sequences [N, T] int64 token numbers from 0, PAD after the end of a row.
        """
        rows = sequences.cpu().numpy()
        if not rows.size or (rows[:, 0] == PAD).any():
            raise ConfigError("a prefix tree needs at least one token in every sequence")
        order = np.lexsort(rows.T[::-1])
        rows = rows[order]
        real = rows != PAD
        # In sorted order a row opens a node at each place from its first difference to the row before on.
        new = np.ones(rows.shape, dtype=bool)
        new[1:] = np.logical_or.accumulate(rows[1:] != rows[:-1], axis=1)
        new &= real
        return cls._number(rows, real, new, order)

    @classmethod
    def _number(
        cls, rows: np.ndarray, real: np.ndarray, new: np.ndarray, order: np.ndarray
    ) -> Self:
        """Numbers the nodes by depth and collects their children and leaves.

        Shapes: rows, real, new [N, T], order [N].
        """
        count, depth = rows.shape
        row, column = np.nonzero(new)
        by_depth = np.lexsort((row, column))
        row, column = row[by_depth], column[by_depth]  # one entry for each node but the root
        node = np.zeros((count, depth + 1), dtype=np.int64)
        node[row, column + 1] = np.arange(1, len(row) + 1)
        np.maximum.accumulate(node, axis=0, out=node)  # a row shares the node that opened before it
        parent = node[row, column]
        nodes = len(row) + 1
        children = np.bincount(parent, minlength=nodes)
        first_child = np.full(nodes, nodes, dtype=np.int64)
        np.minimum.at(first_child, parent, np.arange(1, nodes))
        at, places = np.nonzero(real)
        through = np.concatenate([np.zeros(count, dtype=np.int64), node[at, places + 1]])
        below = np.bincount(through, minlength=nodes)
        last = real.sum(1) - 1
        every = np.arange(count)
        _check_distinct(new[every, last], below[node[every, last + 1]], order)
        first_leaf = np.concatenate([[0], row])
        leaf = np.full(count + 1, count, dtype=np.int64)
        leaf[order + 1] = np.arange(count)
        run, end = _runs(first_child, children)
        return cls(
            token=torch.from_numpy(np.concatenate([[PAD], rows[row, column]])),
            first_child=torch.from_numpy(first_child),
            num_children=torch.from_numpy(children),
            first_leaf=torch.from_numpy(first_leaf),
            end_leaf=torch.from_numpy(first_leaf + below),
            item=torch.from_numpy(order + 1),
            leaf=torch.from_numpy(leaf),
            run=torch.from_numpy(run),
            end=torch.from_numpy(end),
        )

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.item)

    def to(self, device: torch.device) -> Self:
        """The same tree on `device`."""
        return type(self)(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def paths(self, sequences: Tensor) -> Tensor:
        """Returns the node that each token leads to; -1 at PAD. The sequences are those of the tree.

        Shapes: [M, T] -> [M, T].
        """
        size = int(self.token.max()) + 1
        parents = torch.repeat_interleave(self.num_children)  # of the nodes after the root
        keys = parents * size + self.token[1:]  # ascending, as nodes and siblings are
        node, steps = torch.zeros_like(sequences[:, 0]), []
        for token in sequences.unbind(1):
            below = torch.searchsorted(keys, node * size + token) + 1
            node = torch.where(token == PAD, node, below)
            steps.append(torch.where(token == PAD, PAD, node))
        return torch.stack(steps, 1)

    def follow_runs(self, nodes: Tensor, count: int) -> Tensor:
        """Returns the first `count` nodes of the run from each node; undefined beyond its end.

        Shapes: [...] -> [..., count].
        """
        chain = [nodes]
        for _ in range(count - 1):
            chain.append(self.first_child[chain[-1]].clamp(max=len(self.token) - 1))
        return torch.stack(chain, -1)

    def leaves_of(self, items: Tensor) -> Tensor:
        """Returns the distinct leaves of each row's items in ascending order, padded with N.

        Shapes: items [B, S] int64 item numbers, 0 where padded -> [B, S].
        """
        leaves = self.leaf[items].sort(1).values
        repeated = torch.zeros_like(leaves, dtype=torch.bool)
        repeated[:, 1:] = leaves[:, 1:] == leaves[:, :-1]
        return leaves.masked_fill(repeated, self.num_items).sort(1).values

    def all_leaves_in(self, nodes: Tensor, leaves: Tensor) -> Tensor:
        """Returns whether every leaf at or below a node is one of `leaves`.

        Shapes: nodes [B, M] int64, leaves [B, S] as `leaves_of` gives -> [B, M] bool.
        """
        return self._count(nodes, leaves) == self.end_leaf[nodes] - self.first_leaf[nodes]

    def no_leaves_in(self, nodes: Tensor, leaves: Tensor) -> Tensor:
        """Returns whether no leaf at or below a node is one of `leaves`; shapes as in `all_leaves_in`."""
        return self._count(nodes, leaves) == 0

    def _count(self, nodes: Tensor, leaves: Tensor) -> Tensor:
        """Counts the leaves of a row at or below each node. Shapes: [B, M], [B, S] -> [B, M]."""
        first, end = self.first_leaf[nodes], self.end_leaf[nodes]
        return torch.searchsorted(leaves, end) - torch.searchsorted(leaves, first)


def _runs(first_child: np.ndarray, children: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes length and end of the run from each node by pointer doubling."""
    forced = children == 1
    end = np.where(forced, first_child, np.arange(len(children)))
    steps = forced.astype(np.int64)
    while True:
        more = steps[end]
        if not more.any():
            return steps + 1, end
        steps, end = steps + more, end[end]


def _check_distinct(opens: np.ndarray, below: np.ndarray, order: np.ndarray) -> None:
    """Checks that every row ends in a node of its own that no other row passes through.

    Raises:
        ConfigError: two rows are equal, or one is a prefix of another.
    """
    if not opens.all():
        at = int(np.flatnonzero(~opens)[0])
        raise ConfigError(
            f"items {order[at - 1] + 1} and {order[at] + 1} have the same token sequence; make the "
            "IDs unique"
        )
    if (below > 1).any():
        at = int(np.flatnonzero(below > 1)[0])
        raise ConfigError(
            f"the token sequence of item {order[at] + 1} is a prefix of that of item "
            f"{order[at + 1] + 1}; close every sequence with an end mark"
        )
