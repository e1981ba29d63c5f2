"""The tree of a run: its clusters, their words, and the place of every item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from seqloom.data.sequences import Sequences
from seqloom.data.tie_keys import tie_keys
from seqloom.llm.generation.lexicon import Lexicon
from seqloom.systems.idgenrec.config import TextualIDConfig
from seqloom.systems.idgenrec.item_texts import OwnWords
from seqloom.systems.idgenrec.tree.growth import grow
from seqloom.systems.idgenrec.tree.item_space import build_space, sum_of_words
from seqloom.systems.idgenrec.tree.stop_words import STOP_WORDS

_COMMON = 0.2
"""A word of more than this share of the items is a filler, as stop words are."""


class NameTree(nn.Module):
    """Clusters of items by what is bought together and by words.

    Nodes are numbered in breadth-first order, the root is 0. Items of the training have the leaf in which the
    clustering put them; other items descend to the nearest centroid, by their words alone.
    """

    paths: Tensor
    """[nodes, levels] int64: words from the root, as places in the lexicon; -1 after the last."""
    first_child: Tensor
    """[nodes] int64: the first child, followed by the others."""
    num_children: Tensor
    """[nodes] int64: number of children."""
    centroids: Tensor
    """[nodes, D] float32."""
    words: Tensor
    """[W, D] float32: vectors of the lexicon's words."""
    often: Tensor
    """[W] int64: number of items that have a word."""
    keys: Tensor
    """[N] int64, ascending: a hash of id and text of each item of the training."""
    leaves: Tensor
    """[N] int64: the leaf of each of them."""

    def __init__(self, nodes: int, levels: int, words: int, dims: int, items: int) -> None:
        super().__init__()
        self.sizes = {
            "nodes": nodes, "levels": levels, "words": words, "dims": dims, "items": items
        }  # fmt: skip
        self.register_buffer("paths", torch.full((nodes, levels), -1))
        for name in ("first_child", "num_children"):
            self.register_buffer(name, torch.zeros(nodes, dtype=torch.int64))
        self.register_buffer("centroids", torch.zeros(nodes, dims))
        self.register_buffer("words", torch.zeros(words, dims))
        self.register_buffer("often", torch.zeros(words, dtype=torch.int64))
        for name in ("keys", "leaves"):
            self.register_buffer(name, torch.zeros(items, dtype=torch.int64))

    @classmethod
    def fit(
        cls,
        train: Sequences,
        texts: Sequence[str],
        item_ids: Sequence[str],
        lexicon: Lexicon,
        config: TextualIDConfig,
        seed: int,
    ) -> Self:
        """Builds the tree of a catalogue from its texts and the training part.

        The tree does not depend on the order of the items.
        """
        settings = config.tree
        bags = _bags(texts, lexicon)
        often = np.asarray(bags.sum(0)).ravel().astype(np.int64)
        order = torch.tensor(sorted(range(len(texts)), key=lambda i: (texts[i], item_ids[i])))
        vectors, words = build_space(train, bags, order, settings, seed)
        usable = ~_fillers(lexicon, often, len(texts)) & _short(lexicon, config)
        nodes = grow(vectors, bags, usable, order, settings, seed)
        tree = cls(len(nodes), settings.levels, len(lexicon.words), settings.dims, len(texts))
        leaf = torch.zeros(len(texts), dtype=torch.int64)
        for number, node in enumerate(nodes):
            tree.paths[number, : len(node.path)] = torch.tensor(node.path)
            tree.first_child[number], tree.num_children[number] = node.first_child, node.children
            tree.centroids[number] = node.centroid
            if not node.children:
                leaf[node.rows] = number
        keys = _keys(texts, item_ids)
        tree.words.copy_(words)
        tree.often.copy_(torch.from_numpy(often))
        tree.keys.copy_(keys.sort().values)
        tree.leaves.copy_(leaf[keys.argsort()])
        return tree

    def place(self, texts: Sequence[str], item_ids: Sequence[str], lexicon: Lexicon) -> Tensor:
        """Returns the leaf of each item, for the lexicon that the tree was built with. Shapes: -> [M]."""
        keys, known = _keys(texts, item_ids), self.keys.cpu()
        at = torch.searchsorted(known, keys).clamp(max=len(known) - 1)
        leaves = torch.where(known[at] == keys, self.leaves.cpu()[at], -1)
        new = torch.nonzero(leaves < 0).flatten()
        if len(new):
            leaves[new] = self._descend([texts[row] for row in new.tolist()], lexicon)
        return leaves

    def _descend(self, texts: Sequence[str], lexicon: Lexicon) -> Tensor:
        """Goes from the root to a leaf, each time to the child with the nearest centroid."""
        vectors = torch.from_numpy(
            sum_of_words(_bags(texts, lexicon), self.words.cpu().double().numpy())
        )
        centroids = self.centroids.cpu().double()
        first, num_children = self.first_child.cpu(), self.num_children.cpu()
        node = torch.zeros(len(texts), dtype=torch.int64)
        while bool((num_children[node] > 0).any()):
            for parent in node[num_children[node] > 0].unique().tolist():
                rows, start = torch.nonzero(node == parent).flatten(), int(first[parent])
                near = vectors[rows] @ centroids[start : start + int(num_children[parent])].T
                node[rows] = start + near.argmax(1)
        return node

    def path_words(self, lexicon: Lexicon) -> list[tuple[str, ...]]:
        """Returns the words from the root to each node."""
        rows = self.paths.tolist()
        return [tuple(lexicon.words[word] for word in row if word >= 0) for row in rows]

    def is_filler(self, word: str, items: int) -> bool:
        """Returns whether a word that so many items of the training have says too little to name one."""
        return word in STOP_WORDS or items > _COMMON * len(self.keys)

    def counts(self, lexicon: Lexicon) -> Mapping[str, int]:
        """Returns in how many items of the training each word is."""
        return dict(zip(lexicon.words, self.often.tolist(), strict=True))


def _bags(texts: Sequence[str], lexicon: Lexicon) -> Any:
    """Returns 1 where an item has a word, as scipy CSR. Shapes: -> [N, W]."""
    from scipy import sparse

    rows = OwnWords.of(texts, lexicon).rows
    ends = np.cumsum([0, *map(len, rows)])
    columns = np.array([word for row in rows for word in row], dtype=np.int64)
    return sparse.csr_matrix(
        (np.ones(len(columns)), columns, ends), shape=(len(rows), len(lexicon.words))
    )


def _fillers(lexicon: Lexicon, often: Any, items: int) -> Any:
    """Returns which words say too little to name a cluster. Shapes: often [W] -> [W] bool."""
    stop = np.array([word in STOP_WORDS for word in lexicon.words])
    return stop | (often > _COMMON * items)


def _short(lexicon: Lexicon, config: TextualIDConfig) -> Any:
    """Returns which words leave room for those of every level and of the item. Shapes: -> [W] bool."""
    most = max(1, (config.most_tokens - 1) // config.tree.levels)
    return np.array([len(pieces) <= most for pieces in lexicon.pieces])


def _keys(texts: Sequence[str], item_ids: Sequence[str]) -> Tensor:
    return tie_keys([f"{own}\n{text}" for own, text in zip(item_ids, texts, strict=True)])
