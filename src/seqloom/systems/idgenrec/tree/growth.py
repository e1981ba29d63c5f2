"""Grows a tree of clusters, each named by its most distinctive word."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from seqloom.core.random import generator
from seqloom.systems.idgenrec.config import TreeConfig
from seqloom.systems.idgenrec.tree.clusters import balanced_clusters

_SLACK = 1.5
"""Largest size of a cluster, in mean sizes of it and its siblings."""


@dataclass
class Node:
    """A cluster of items."""

    rows: Any
    """[M] numpy, the items."""
    centroid: Tensor
    """[D] of length one, or zero."""
    path: tuple[int, ...] = ()
    """The words from the root to this node, as places in the lexicon."""
    first_child: int = 0
    children: int = field(default=0)


def grow(
    vectors: Tensor, bags: Any, usable: Any, order: Tensor, config: TreeConfig, seed: int
) -> list[Node]:
    """Divides the items into clusters and these again; returns the nodes in breadth-first order.

    Each cluster gets a word that neither a sibling nor an ancestor has, and that an item of its parent has.

    Args:
        bags: [N, W] scipy CSR, 1 where an item has a word.
        usable: [W] numpy bool, whether a word may name a cluster.
        order: [N] rows of the items in an order that is not that of the file.

    Shapes: vectors [N, D].
    """
    branches = max(2, round((len(vectors) / config.leaf_items) ** (1 / config.levels)))
    nodes = [Node(order.numpy(), vectors.mean(0))]
    for number, node in enumerate(nodes):  # the list grows as it is read
        most = min(branches, math.ceil(len(node.rows) / config.leaf_items))
        if len(node.path) == config.levels or most < 2:
            continue
        some = np.asarray(bags[node.rows].sum(0)).ravel() > 0
        some[list(node.path)] = False
        words = np.flatnonzero(usable & some)
        count = min(most, len(words))
        if count < 2:
            continue
        draw = generator(seed, "tree", "clusters", number)
        labels, centroids = balanced_clusters(vectors[node.rows], count, _SLACK, draw)
        filled = labels.unique().tolist()
        groups = [node.rows[labels.numpy() == cluster] for cluster in filled]
        node.first_child, node.children = len(nodes), len(groups)
        named = _distinctive_words([bags[group] for group in groups], words)
        for cluster, group, word in zip(filled, groups, named, strict=True):
            nodes.append(Node(group, centroids[cluster], (*node.path, word)))
    return nodes


def _distinctive_words(groups: list[Any], words: Any) -> list[int]:
    """Gives each group a word of its own so that the sum of their scores is largest.

    A word's score in a group is the number of its items that have it, times the logarithm of their share over
    the share among all groups.

    Source: BERTopic's class-based TF-IDF (Grootendorst 2022, arXiv 2203.05794), the frequency of a word in a
        class times the logarithm of its inverse frequency in all.
    Differs: items that have a word are counted, not occurrences; groups do not share a word.
    """
    from scipy.optimize import linear_sum_assignment

    counts = np.stack([np.asarray(group.sum(0)).ravel()[words] for group in groups])
    sizes = np.array([group.shape[0] for group in groups], dtype=np.float64)
    overall = counts.sum(0) / sizes.sum()
    share = np.where(counts > 0, counts / sizes[:, None], overall)
    scores = np.where(counts > 0, counts * np.log(share / overall), -float(sizes.sum()))
    _, chosen = linear_sum_assignment(-scores)
    return [int(words[column]) for column in chosen]
