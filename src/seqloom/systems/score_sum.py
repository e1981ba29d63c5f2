"""Weighted sums of the scores of trained systems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from seqloom.core.protocols import ListScorer, Scorer, VectorScorer
from seqloom.nn.item_product import ItemProduct

Scale = Literal["logits", "z_score"]
_LEAST_SPREAD = 1e-6
"""Smallest standard deviation to divide scores by."""


class MemberScorer:
    """Scores of one member on the scale of the sum; cuts a history to the length that the member reads."""

    def __init__(self, scorer: Scorer, max_len: int | None, scale: Scale = "logits") -> None:
        self.scorer = scorer.exact_scorer() if isinstance(scorer, ListScorer) else scorer
        self.scale = scale
        self._max_len = max_len
        self.covariance: Tensor | None = None
        """[D', D'] covariance of the item vectors, for standardised dot products; else None."""
        if scale == "z_score" and isinstance(self.scorer, VectorScorer):
            self.covariance = torch.cov(self.scorer.item_vectors.float().t(), correction=0)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Scores the catalogue. Shapes: [B, L], [B] -> [B, N]."""
        scores = self.scorer.score(*newest(items, lengths, self._max_len)).float()
        if self.scale == "logits":
            return scores
        return scores / scores.std(1, correction=0, keepdim=True).clamp(min=_LEAST_SPREAD)

    def queries(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Returns queries of a member that scores by dot products. Shapes: [B, L], [B] -> [B, D']."""
        assert isinstance(self.scorer, VectorScorer)
        queries = self.scorer.queries(*newest(items, lengths, self._max_len)).float()
        return queries if self.covariance is None else standardise(queries, self.covariance)


class EnsembleScorer:
    """Sums the weighted scores of all members, one member at a time."""

    def __init__(self, members: Sequence[MemberScorer], weights: Tensor) -> None:
        self.num_items = members[0].scorer.num_items
        self._members = members
        self._weights = weights

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Scores the catalogue. Shapes: [B, L], [B] -> [B, N]."""
        total = torch.zeros(len(items), self.num_items, device=items.device)
        for member, weight in zip(self._members, self._weights, strict=True):
            total += weight * member.score(items, lengths)
        return total


class VectorEnsembleScorer:
    """Scores by dot products of the members' concatenated vectors, if all members score by dot products."""

    def __init__(self, members: Sequence[MemberScorer], weights: Tensor) -> None:
        self._members = members
        self._weights = weights
        self.item_vectors = torch.cat([vectors(member).float() for member in members], dim=1)
        self.num_items = len(self.item_vectors)
        self.score_queries = ItemProduct(self.item_vectors)

    def queries(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Concatenates the members' weighted queries. Shapes: [B, L], [B] -> [B, D']."""
        pairs = zip(self._members, self._weights, strict=True)
        return torch.cat([weight * member.queries(items, lengths) for member, weight in pairs], 1)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Scores the catalogue. Shapes: [B, L], [B] -> [B, N]."""
        return self.score_queries(self.queries(items, lengths))


def build_scorer(
    members: Sequence[MemberScorer], weights: Tensor
) -> EnsembleScorer | VectorEnsembleScorer:
    """Builds a scorer by dot products if every member has one."""
    if all(isinstance(member.scorer, VectorScorer) for member in members):
        return VectorEnsembleScorer(members, weights)
    return EnsembleScorer(members, weights)


def standardise(queries: Tensor, covariance: Tensor) -> Tensor:
    """Divides queries by the standard deviation of their scores over all items, sqrt(q' C q).

    Shapes: queries [B, D'], covariance [D', D'] of the items' vectors -> [B, D'].
    """
    variance = ((queries @ covariance) * queries).sum(1, keepdim=True)
    return queries / variance.clamp(min=0).sqrt().clamp(min=_LEAST_SPREAD)


def vectors(member: MemberScorer) -> Tensor:
    """Returns the item vectors of a member that scores by dot products. Shapes: [N, D']."""
    assert isinstance(member.scorer, VectorScorer)
    return member.scorer.item_vectors


def newest(items: Tensor, lengths: Tensor, max_len: int | None) -> tuple[Tensor, Tensor]:
    """Cuts padded histories to their last `max_len` items. Shapes: [B, L], [B] -> [B, L'], [B]."""
    if max_len is None or items.shape[1] <= max_len:
        return items, lengths
    return cut(items, lengths, max_len)


def cut(items: Tensor, lengths: Tensor, max_len: int) -> tuple[Tensor, Tensor]:
    """Cuts histories whatever L is, for a graph with dynamic L. Shapes: -> [B, max_len], [B]."""
    kept = lengths.clamp(max=max_len)
    places = torch.arange(max_len, device=items.device)
    real = places < kept[:, None]
    last = items.gather(1, torch.where(real, (lengths - kept)[:, None] + places, 0))
    return torch.where(real, last, 0), kept
