"""Item vectors by what is bought together, and word vectors that predict them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqloom.core.random import generator
from seqloom.data.sequences import Sequences
from seqloom.systems.idgenrec.config import TreeConfig

_MORE_DIRECTIONS = 16
_ITERATIONS = 12
_PENALTY = 0.5
"""Ridge penalty for the vectors of words, for items of length one."""


def build_space(
    train: Sequences, bags: Any, order: Tensor, config: TreeConfig, seed: int
) -> tuple[Tensor, Tensor]:
    """Places items so that those that are bought together are near, and gives words vectors.

    The log's part of an item's vector are its coordinates in the leading eigenvectors of the graph of items
    that stand near each other in training histories. The words' part is the sum of its words' vectors, which
    are fitted by ridge regression to predict the log's part: a static text encoder, tuned by the log in
    closed form. The log's part weighs n / (n + `config.events`) for an item with n events, the words' part
    the rest, so that an item without events stands where its words put it.

    Source: Qin & Rohe, NeurIPS 2013, "Regularized Spectral Clustering under the Degree-Corrected Stochastic
        Blockmodel" (the log's part: regularised Laplacian, rows of length one).

    Args:
        bags: [N, W] scipy CSR, 1 where an item has a word.
        order: [N] rows of the items in an order that is not that of the file; draws and rounding follow it.

    Shapes: -> [N, D] of length one, or zero without neighbours and words; [W, D]; both float64.
    """
    place = np.empty(len(order), np.int64)
    place[order.numpy()] = np.arange(len(order))
    bags = bags[order.numpy()]
    log = _unit(_leading_axes(_neighbour_graph(train, place, config.window), config.dims, seed))
    counts = torch.bincount(train.flat()[1] - 1, minlength=len(order)).numpy()[order.numpy()]
    known = counts / np.clip(counts + config.events, 1e-9, None)
    words = _word_vectors(bags, log, known)
    text = sum_of_words(bags, words)
    known = np.where(np.abs(text).any(1), known, 1.0)[:, None]
    both = _unit(known * log + (1 - known) * text)
    return torch.from_numpy(both[place]), torch.from_numpy(words)


def sum_of_words(bags: Any, words: Any) -> Any:
    """Returns the words' part of items' vectors, of length one or zero. Shapes: [N, W], [W, D] -> [N, D]."""
    return _unit(bags @ words)


def _neighbour_graph(train: Sequences, place: Any, window: int) -> Any:
    """Returns the normalised graph of items at most `window` places apart, as scipy CSR. Shapes: -> [N, N].

    A pair counts by the inverse of its distance; the mean degree is added to each.
    """
    from scipy import sparse

    rows, items = (part.numpy() for part in train.flat())
    nodes, n = place[items - 1], len(place)
    graph = sparse.csr_matrix((n, n))
    for gap in range(1, window + 1):
        near = (rows[gap:] == rows[:-gap]) & (nodes[gap:] != nodes[:-gap])
        pair = (nodes[:-gap][near], nodes[gap:][near])
        graph = graph + sparse.csr_matrix((np.full(len(pair[0]), 1 / gap), pair), shape=(n, n))
    graph = graph + graph.T
    degrees = np.asarray(graph.sum(1)).ravel()
    scale = sparse.diags(1 / np.sqrt(degrees + max(degrees.mean(), 1e-9)))
    return (scale @ graph @ scale).tocsr()


def _leading_axes(graph: Any, dims: int, seed: int) -> Any:
    """Returns the leading eigenvectors times their eigenvalues. Shapes: [N, N] -> [N, dims].

    Source: Halko, Martinsson & Tropp, SIAM Review 2011, algorithm 4.4 (subspace iteration).
    """
    size = min(graph.shape[0], dims + _MORE_DIRECTIONS)
    draw = generator(seed, "tree", "axes")
    start = torch.randn(graph.shape[0], size, generator=draw, dtype=torch.float64)
    basis, _ = np.linalg.qr(start.numpy())
    for _ in range(_ITERATIONS):
        basis, _ = np.linalg.qr(graph @ basis + basis)  # eigenvalues are above -1: 1 is added
    values, axes = np.linalg.eigh(basis.T @ (graph @ basis))
    leading = (basis @ axes)[:, ::-1][:, :dims] * np.clip(values[::-1][:dims], 0, None)
    return np.pad(leading, ((0, 0), (0, dims - leading.shape[1])))


def _word_vectors(bags: Any, log: Any, known: Any) -> Any:
    """Fits word vectors, weighted by rarity, whose sums predict the log's part. Shapes: -> [W, D]."""
    from scipy import sparse
    from scipy.sparse.linalg import lsmr

    often = np.asarray(bags.sum(0)).ravel()
    rarity = np.log(1 + bags.shape[0] / np.clip(often, 1, None))
    features = bags @ sparse.diags(rarity)
    length = np.sqrt(np.asarray(features.multiply(features).sum(1)).ravel())
    weight = np.sqrt(known)
    features = sparse.diags(weight / np.clip(length, 1e-12, None)) @ features
    columns = [lsmr(features, weight * column, damp=_PENALTY**0.5)[0] for column in log.T]
    return rarity[:, None] * np.stack(columns, 1)


def _unit(rows: Any) -> Any:
    lengths = np.sqrt((rows * rows).sum(1, keepdims=True))
    return np.where(lengths > 1e-9, rows / np.clip(lengths, 1e-9, None), 0.0)
