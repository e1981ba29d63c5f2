"""What a user without a history is recommended: what is popular, whatever the system.

No system learns what comes first: each is trained on an item after others. What it would make of no item at
all is an accident of how it pads. So an empty history is never put to it, in evaluation as in serving.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seqloom.core.protocols import ListScorer, Scorer
from seqloom.data.popular import popularity_scores
from seqloom.inference.top_k import top_scores


class Popular:
    """Training events as scores, whatever the history."""

    def __init__(self, counts: Tensor) -> None:
        """`counts` [N] are the items' training events."""
        self.num_items = len(counts)
        self._scores = popularity_scores(counts)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Shapes: [B, L], [B] -> [B, N] float64."""
        return self._scores.to(items.device).repeat(len(items), 1)


def with_popular(scorer: Scorer, counts: Tensor, keys: Tensor | None = None) -> Scorer:
    """A scorer that answers an empty history by `popularity_scores`, and any other as `scorer` does.

    Args:
        keys: [N] what breaks ties in the lists of a `ListScorer` (`data.tie_keys`).

    Shapes: counts [N] training events of the scorer's items.
    """
    kind = _Lists if isinstance(scorer, ListScorer) else _Scores
    return kind(scorer, counts, keys)


class _Scores:
    """Scores of the whole catalogue."""

    def __init__(self, scorer: Scorer, counts: Tensor, keys: Tensor | None) -> None:
        assert len(counts) == scorer.num_items
        self.num_items = scorer.num_items
        self._scorer, self._counts, self._keys = scorer, counts, keys
        self._popular = popularity_scores(counts)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Shapes: [B, L], [B] -> [B, N]."""

        def popular(rows: Tensor) -> Tensor:
            return self._popular.to(items.device).repeat(len(rows), 1)

        return _either(
            lengths, popular, lambda rows: self._scorer.score(items[rows], lengths[rows])
        )


class _Lists(_Scores):
    """Lists of the best items."""

    _scorer: ListScorer

    @property
    def list_size(self) -> int:
        """See `ListScorer`."""
        return self._scorer.list_size

    def best(
        self, items: Tensor, lengths: Tensor, k: int, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `ListScorer`. Shapes: [B, L], [B], [B, S] -> [B, k], [B, k]."""
        found = items.new_zeros(len(items), k, dtype=torch.int64)

        def popular(rows: Tensor) -> Tensor:
            scores = self._popular.to(items.device).repeat(len(rows), 1)
            if seen is not None:
                line, at = torch.nonzero(seen[rows], as_tuple=True)
                scores[line, seen[rows][line, at] - 1] = -torch.inf
            values, columns = top_scores(scores, min(k, self.num_items), self._keys)
            found[rows, : values.shape[1]] = torch.where(values == -torch.inf, 0, columns + 1)
            return torch.nn.functional.pad(values, (0, k - values.shape[1]), value=-torch.inf)

        def listed(rows: Tensor) -> Tensor:
            hidden = None if seen is None else seen[rows]
            found[rows], values = self._scorer.best(items[rows], lengths[rows], k, hidden)
            return values

        values = _either(lengths, popular, listed)
        return found, values

    def score_candidates(self, items: Tensor, lengths: Tensor, candidates: Tensor) -> Tensor:
        """See `ListScorer`. Shapes: [B, L], [B], [B, C] -> [B, C]."""

        def popular(rows: Tensor) -> Tensor:
            wanted = candidates[rows]
            scores = self._popular.to(items.device)[(wanted - 1).clamp(min=0)]
            return scores.masked_fill(wanted == 0, -torch.inf)

        def scored(rows: Tensor) -> Tensor:
            return self._scorer.score_candidates(items[rows], lengths[rows], candidates[rows])

        return _either(lengths, popular, scored)

    def exact_scorer(self) -> Scorer:
        """See `ListScorer`."""
        return with_popular(self._scorer.exact_scorer(), self._counts, self._keys)

    def restrict_to(self, numbers: Tensor) -> Scorer:
        """See `ListScorer`. Shapes: numbers [C]."""
        rows = numbers.to(self._counts.device) - 1
        keys = None if self._keys is None else self._keys[rows]
        return with_popular(self._scorer.restrict_to(numbers), self._counts[rows], keys)


def _either(
    lengths: Tensor, empty: Callable[[Tensor], Tensor], known: Callable[[Tensor], Tensor]
) -> Tensor:
    """Rows of `empty` for empty histories and of `known` for the others, each asked for its row numbers.

    Double precision where both speak, in which counts keep their order. Shapes: lengths [B] -> [B, ...].
    """
    nobody = torch.nonzero(lengths == 0).flatten()
    others = torch.nonzero(lengths).flatten()
    if not len(nobody):
        return known(others)
    first = empty(nobody)
    found = first.new_empty(len(lengths), first.shape[1])
    found[nobody] = first
    if len(others):
        found[others] = known(others).to(found.dtype)
    return found
