"""Balanced spherical k-means."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_ITERATIONS = 20


def balanced_clusters(
    vectors: Tensor, count: int, slack: float, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Divides rows into `count` clusters of at most `slack` times the mean size, by cosine similarity.

    Source: k-means++ (Arthur & Vassilvitskii, SODA 2007) for the start; Lloyd's iterations.
    Differs: a full cluster keeps the rows that are nearest to it, and the others go to the next.

    Shapes: vectors [M, D], rows of length one or zero -> labels [M], centroids [count, D] alike.
    """
    centroids = _first_centroids(vectors, count, draw)
    most = max(math.ceil(len(vectors) / count), math.floor(slack * len(vectors) / count))
    labels = _assign(vectors @ centroids.T, most)
    for _ in range(_ITERATIONS):
        centroids = _means(vectors, labels, count)
        moved = _assign(vectors @ centroids.T, most)
        if torch.equal(moved, labels):
            break
        labels = moved
    return labels, _means(vectors, labels, count)


def _first_centroids(vectors: Tensor, count: int, draw: torch.Generator) -> Tensor:
    chosen = [int(torch.randint(len(vectors), (1,), generator=draw))]
    far = torch.full((len(vectors),), torch.inf, dtype=vectors.dtype)
    while len(chosen) < count:
        distance = (vectors - vectors[chosen[-1]]).square().sum(1)
        far = torch.minimum(far, distance)
        far[chosen] = 0
        weights = far if float(far.sum()) > 0 else _others(far, chosen)
        chosen.append(int(torch.multinomial(weights, 1, generator=draw)))
    return vectors[chosen]


def _others(like: Tensor, chosen: list[int]) -> Tensor:
    weights = torch.ones_like(like)
    weights[chosen] = 0
    return weights


def _means(vectors: Tensor, labels: Tensor, count: int) -> Tensor:
    sums = torch.zeros(count, vectors.shape[1], dtype=vectors.dtype)
    return F.normalize(sums.index_add_(0, labels, vectors), dim=1)


def _assign(scores: Tensor, most: int) -> Tensor:
    """Gives each row its best cluster that has room; nearer rows are preferred. Shapes: [M, K] -> [M]."""
    scores = scores.clone()
    labels = torch.full((len(scores),), -1)
    room = torch.full((scores.shape[1],), most)
    while bool((labels < 0).any()):
        left = torch.nonzero(labels < 0).flatten()
        value, wish = scores[left].max(1)
        by_value = torch.argsort(value, descending=True, stable=True)
        for cluster in wish.unique().tolist():
            applicants = by_value[wish[by_value] == cluster][: int(room[cluster])]
            labels[left[applicants]] = cluster
            room[cluster] -= len(applicants)
        scores[:, room == 0] = -torch.inf
    return labels
