"""Scores of IDGenRec that add a dense text score to the log-probability of an item's ID."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from seqloom.core.protocols import Scorer, VectorScorer
from seqloom.systems.answers import Answers
from seqloom.systems.idgenrec.scorer import BeamScorer, ExactScorer
from seqloom.systems.score_sum import MemberScorer

T = TypeVar("T")


@dataclass(frozen=True)
class Dense:
    """A dense score and its weight."""

    scorer: VectorScorer
    weight: float
    max_len: int
    """The longest history that it reads."""

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Returns the weighted scores of the catalogue. Shapes: [B, L], [B] -> [B, N]."""
        with torch.inference_mode():
            return self.weight * MemberScorer(self.scorer, self.max_len).score(items, lengths)


class ExactSum:
    """log p(ID | history) + b times the dense score, of the whole catalogue or of some of its items."""

    def __init__(self, ids: ExactScorer, dense: Dense, only: Tensor | None = None) -> None:
        """`only` [C] are the item numbers that `ids` scores, by default all."""
        self.num_items = ids.num_items
        self._ids, self._dense, self._only = ids, dense, only

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Scores the catalogue, or the items alone. Shapes: [B, L], [B] -> [B, N] or [B, C]."""
        dense = self._dense.score(items, lengths)
        if self._only is not None:
            dense = dense[:, self._only.to(dense.device) - 1]
        return self._ids.score(items, lengths) + dense


class UnionScorer:
    """Lists the best by log p(ID | history) + b times the dense score among two sets of candidates.

    A beam search lists some items, and the dense score the nearest; both scores of all of them are exact.

    Source: Yang et al., 2024, "Unifying Generative and Dense Retrieval for Sequential Recommendation"
        (LIGER, arXiv 2411.18814): the beam's items and items without events are ranked by the dense score.
    Differs: both scores are added, with a weight that validation chooses; every item can be a dense
        candidate, not new ones alone; the dense score is that of a text tower of its own.
    """

    def __init__(
        self, ids: BeamScorer, dense: Dense, nearest: int, answers: Answers | None = None
    ) -> None:
        """`nearest` is the number of dense candidates; `answers` keeps what `ids` finds for any weight."""
        self.num_items = ids.num_items
        self._ids, self._dense, self._nearest = ids, dense, nearest
        self._answers = answers

    @property
    def list_size(self) -> int:
        """Default number of items in a list: that of the beam search."""
        return self._ids.list_size

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Scores the catalogue, slowly. Shapes: [B, L], [B] -> [B, N]."""
        return self.exact_scorer().score(items, lengths)

    def score_candidates(self, items: Tensor, lengths: Tensor, candidates: Tensor) -> Tensor:
        """Scores the candidates of each history; see `core.protocols`.

        Shapes: [B, L], [B], candidates [B, C] item numbers, 0 where padded -> [B, C].
        """
        dense = self._dense.score(items, lengths).gather(1, (candidates - 1).clamp(min=0))
        return self._ids.score_candidates(items, lengths, candidates) + dense

    def exact_scorer(self) -> Scorer:
        """Returns a scorer by both scores of every item."""
        return ExactSum(self._ids.exact_scorer(), self._dense)

    def restrict_to(self, numbers: Tensor) -> Scorer:
        """Returns a scorer of these items only; see `core.protocols`. Shapes: numbers [C] int64."""
        return ExactSum(self._ids.restrict_to(numbers), self._dense, numbers)

    def best(
        self, items: Tensor, lengths: Tensor, k: int, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Lists the `k` best unseen items of both sets of candidates; see `core.protocols`.

        Shapes: items [B, L], lengths [B], seen [B, S] -> items and scores [B, k].
        """
        listed, written = self._recall(
            lambda: self._ids.best(items, lengths, k, seen), "list", items, lengths, k, seen
        )
        dense = self._dense.score(items, lengths)
        near = _nearest(dense, max(k, self._nearest), seen)
        near = near.masked_fill((near[..., None] == listed[:, None]).any(2), 0)
        added = self._recall(
            lambda: self._ids.score_candidates(items, lengths, near), "scores", items, lengths, near
        )
        union = torch.cat([listed, near], 1)
        scores = torch.cat([written, added], 1) + dense.gather(1, (union - 1).clamp(min=0))
        scores = scores.masked_fill(union == 0, float("-inf"))
        top = scores.topk(k, dim=1)
        return union.gather(1, top.indices), top.values

    def _recall(self, answer: Callable[[], T], *question: Tensor | Hashable) -> T:
        return answer() if self._answers is None else self._answers.recall(answer, *question)


def _nearest(scores: Tensor, count: int, seen: Tensor | None) -> Tensor:
    """Returns the item numbers of the largest scores outside `seen`, 0 where there is none.

    Shapes: scores [B, N], seen [B, S] -> [B, min(count, N)].
    """
    padded = torch.nn.functional.pad(scores, (1, 0), value=float("-inf"))  # column 0 is padding
    if seen is not None:
        padded = padded.scatter(1, seen, float("-inf"))
    top = padded.topk(min(count, scores.shape[1]), dim=1)
    return top.indices.masked_fill(top.values == float("-inf"), 0)
