"""Turns histories into lists of the best items, for every kind of scorer.

`recommend`, the lists of `evaluate`, the latency of `compare` and the server all rank here, so one history
has one list. A `ListScorer` searches; any other scorer scores the whole catalogue once a batch. Users
without a history get the popular items, whatever the scorer (`inference.cold_start`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.core.protocols import ListScorer, Scorer, VectorScorer
from seqloom.data.sequences import PaddedBatch, Sequences
from seqloom.inference.cold_start import cold_start_scores
from seqloom.inference.top_k import top_scores


@dataclass(frozen=True)
class Lists:
    """The best items of each row, best first."""

    items: Tensor
    """[B, k] int64, item numbers; 0 where fewer than k can be listed."""
    scores: Tensor
    """[B, k], minus infinity where the item is 0; comparable within a row only."""


@dataclass(frozen=True)
class Ranker:
    """Ranks the items of one scorer.

    A method takes histories that are alike: all empty, or none. `best` alone takes any.
    """

    scorer: Scorer
    device: torch.device
    """Where the scorer's tensors are."""
    max_len: int | None = None
    """Longest history that the scorer reads; longer ones lose their oldest items."""
    keys: Tensor | None = None
    """[N] int64, breaks ties in lists (`data.tie_keys`)."""
    popularity: Tensor | None = None
    """[N'] training events, N' <= N: later items have none. Without it, the scorer reads empty histories
    too."""
    removed: Tensor | None = None
    """[R] int64, item numbers that no list holds."""
    call_cost: int | None = None
    """Padded positions that cost as much as one more call of the scorer: histories of different lengths are
    scored in several calls where that is cheaper. None pads each batch to its longest history."""

    def is_popular(self, histories: Sequences) -> bool:
        """Whether the histories are empty and popularity answers them."""
        return self.popularity is not None and not int(histories.lengths[0])

    def searches(self, histories: Sequences) -> bool:
        """Whether `search` answers the histories; else `score` does."""
        return isinstance(self.scorer, ListScorer) and not self.is_popular(histories)

    @torch.inference_mode()
    def best(
        self,
        histories: Sequences,
        k: int,
        *,
        hidden: Sequences | None = None,
        candidates: Sequence[Sequence[int]] | None = None,
        steering: Tensor | None = None,
    ) -> Lists:
        """Returns the k best items of each history.

        Args:
            hidden: the item numbers that each list must not hold, such as the history itself.
            candidates: the item numbers that each list is taken from; all items if not given.
            steering: [B, N] added to the scores after these were standardised, row by row, to mean 0 and
                standard deviation 1 over the catalogue; minus infinity takes an item out. A list scorer
                that is no vector scorer is asked for its best items, to which the best by steering are
                added; scores are standardised over these candidates.
        """
        empty = histories.lengths == 0
        if 0 < int(empty.sum()) < len(empty):
            groups = [torch.nonzero(empty).flatten(), torch.nonzero(~empty).flatten()]
            parts = [
                self._best(
                    histories.select(rows),
                    k,
                    None if hidden is None else hidden.select(rows),
                    None if candidates is None else [candidates[row] for row in rows.tolist()],
                    None if steering is None else steering[rows],
                )
                for rows in groups
            ]
            return _interleave(groups, parts)
        return self._best(histories, k, hidden, candidates, steering)

    def _best(
        self,
        histories: Sequences,
        k: int,
        hidden: Sequences | None,
        candidates: Sequence[Sequence[int]] | None,
        steering: Tensor | None,
    ) -> Lists:
        if not len(histories):
            return Lists(torch.zeros(0, k, dtype=torch.int64), torch.zeros(0, k))
        if steering is not None and candidates is None and self._scores_few(histories):
            candidates = self._propose(histories, k, hidden, steering)
        if candidates is not None:
            allowed = self._allowed(candidates, hidden)
            return self._best_candidates(histories, k, allowed, steering)
        if steering is not None:
            scores = steer(self.score(histories), steering.to(self.device))
            return self.top(self.hide(scores, hidden), k)
        if self.searches(histories):
            return self.search(histories, k, hidden)
        return self.top(self.hide(self.score(histories), hidden), k)

    def _scores_few(self, histories: Sequences) -> bool:
        """Whether scoring the whole catalogue is far more work than scoring a list."""
        return self.searches(histories) and not isinstance(self.scorer, VectorScorer)

    def _propose(
        self, histories: Sequences, k: int, hidden: Sequences | None, steering: Tensor
    ) -> list[list[int]]:
        """The best items by the scorer's search and, as many again, by steering alone."""
        assert isinstance(self.scorer, ListScorer)
        count = max(k, self.scorer.list_size)
        found = self.search(histories, count, hidden).items.tolist()
        near = self.top(
            self.hide(steering.to(self.device, copy=True), hidden), count
        ).items.tolist()
        return [[item for item in (*a, *b) if item] for a, b in zip(found, near, strict=True)]

    def score(self, histories: Sequences) -> Tensor:
        """Scores the whole catalogue. Shapes: -> [B, N]."""
        if self.is_popular(histories):
            assert self.popularity is not None
            popular = cold_start_scores(self.popularity, self.scorer.num_items)
            return popular.to(self.device).repeat(len(histories), 1)
        if self.call_cost is None:
            return self.scorer.score(*self._pad(histories))
        scorer = self.scorer
        if isinstance(scorer, VectorScorer):
            # Queries take several calls; the item vectors, which are far more to read, one product.
            return scorer.score_queries(self._by_length(scorer.queries, histories))
        return self._by_length(scorer.score, histories)

    def hide(self, scores: Tensor, hidden: Sequences | None) -> Tensor:
        """Sets the scores of removed items and of each row's hidden items to minus infinity, in place.

        Shapes: [B, N] -> [B, N].
        """
        if self.removed is not None and len(self.removed):
            scores[:, self.removed.to(scores.device) - 1] = -torch.inf
        if hidden is not None and int(hidden.lengths.max()):
            rows, items = (part.to(scores.device) for part in hidden.flat())
            scores[rows, items - 1] = -torch.inf
        return scores

    def top(self, scores: Tensor, k: int) -> Lists:
        """Returns the k best items by scores. Shapes: scores [B, N]."""
        return best_items(scores, k, self.keys)

    def search(self, histories: Sequences, k: int, hidden: Sequences | None) -> Lists:
        """Returns the k best items by the scorer's own search, which must be a `ListScorer`."""
        scorer = self.scorer
        assert isinstance(scorer, ListScorer)
        seen = None if hidden is None else hidden.pad().items
        if self.removed is not None and len(self.removed):
            everywhere = self.removed.expand(len(histories), -1)
            seen = everywhere if seen is None else torch.cat([seen, everywhere], 1)
        seen = None if seen is None else seen.to(self.device)
        items, scores = scorer.best(*self._pad(histories), min(k, scorer.num_items), seen)
        return _widen(items, scores, k)

    def score_candidates(self, histories: Sequences, candidates: Tensor) -> Tensor:
        """Scores each history's own candidates exactly; minus infinity where there is none.

        Shapes: candidates [B, C] item numbers, 0 where padded -> [B, C].
        """
        if self.searches(histories):
            assert isinstance(self.scorer, ListScorer)
            return self.scorer.score_candidates(*self._pad(histories), candidates)
        scores = self.score(histories).gather(1, (candidates - 1).clamp(min=0))
        return scores.masked_fill(candidates == 0, -torch.inf)

    def _best_candidates(
        self, histories: Sequences, k: int, candidates: Tensor, steering: Tensor | None
    ) -> Lists:
        """Shapes: candidates [B, C], 0 where padded, steering [B, N]."""
        if not candidates.shape[1]:
            nothing = torch.zeros(len(histories), k, dtype=torch.int64)
            return Lists(nothing, torch.full((len(histories), k), -torch.inf))
        candidates = candidates.to(self.device)
        if self.keys is not None:
            keys = self.keys.to(self.device)[(candidates - 1).clamp(min=0)]
            candidates = candidates.gather(1, keys.argsort(dim=1, stable=True))
        if steering is None:
            scores = self.score_candidates(histories, candidates)
        else:
            scores = self._steer_candidates(histories, candidates, steering.to(self.device))
        values, places = scores.sort(dim=1, descending=True, stable=True)
        items = candidates.gather(1, places).masked_fill(values == -torch.inf, 0)
        return _widen(items[:, :k], values[:, :k], k)

    def _steer_candidates(
        self, histories: Sequences, candidates: Tensor, steering: Tensor
    ) -> Tensor:
        """Shapes: candidates [B, C], steering [B, N] -> [B, C]."""
        places = (candidates - 1).clamp(min=0)
        if self._scores_few(histories):
            scores = self.score_candidates(histories, candidates)
            return steer(scores, steering.gather(1, places))
        scores = steer(self.score(histories), steering).gather(1, places)
        return scores.masked_fill(candidates == 0, -torch.inf)

    def _allowed(self, candidates: Sequence[Sequence[int]], hidden: Sequences | None) -> Tensor:
        """Each row's candidates once, without those that are hidden or removed. Shapes: -> [B, C]."""
        without: list[set[int]] = [set() for _ in candidates]
        if hidden is not None:
            for row, item in zip(*(part.tolist() for part in hidden.flat()), strict=True):
                without[row].add(item)
        removed = set() if self.removed is None else set(self.removed.tolist())
        kept = [set(row) - out - removed for row, out in zip(candidates, without, strict=True)]
        width = max(map(len, kept))
        return torch.tensor([[*sorted(row), *[0] * (width - len(row))] for row in kept])

    def _pad(self, histories: Sequences) -> tuple[Tensor, Tensor]:
        """Histories as the scorer reads them. Shapes: -> [B, L], [B]."""
        batch = histories.pad(self.max_len).to(self.device)
        return batch.items, batch.lengths

    def _by_length(self, call: Callable[[Tensor, Tensor], Tensor], histories: Sequences) -> Tensor:
        """Calls a scorer with histories of similar length at a time. Shapes: -> [B, ...]."""
        assert self.call_cost is not None
        batch = histories.pad(self.max_len)
        groups = _similar_lengths(batch.lengths.tolist(), self.call_cost)
        if len(groups) == 1:
            batch = batch.to(self.device)
            return call(batch.items, batch.lengths)
        cuts = [_rows(batch, group).to(self.device) for group in groups]
        parts = [call(cut.items, cut.lengths) for cut in cuts]
        back = torch.tensor([row for group in groups for row in group]).argsort()
        return torch.cat(parts)[back.to(parts[0].device)]


def best_items(scores: Tensor, k: int, keys: Tensor | None = None) -> Lists:
    """Returns the k best items of each row; fewer where less than k scores are above minus infinity.

    Shapes: scores [B, N], keys [N] as `top_scores` takes them.
    """
    values, columns = top_scores(scores, min(k, scores.shape[1]), keys)
    return _widen(torch.where(values == -torch.inf, 0, columns + 1), values, k)


def best_of(items: Tensor, scores: Tensor, k: int, keys: Tensor | None = None) -> Tensor:
    """Returns the k best of each row's own items, 0 where fewer score above minus infinity.

    Of equal scores the item with the lower key goes first, as in `best_items`.

    Shapes: items [B, C] item numbers, scores [B, C], keys [N] -> [B, k].
    """
    if keys is not None:
        order = keys.to(items.device)[(items - 1).clamp(min=0)].argsort(dim=1, stable=True)
        items, scores = items.gather(1, order), scores.gather(1, order)
    values, places = scores.sort(dim=1, descending=True, stable=True)
    best = items.gather(1, places).masked_fill(values == -torch.inf, 0)[:, :k]
    return torch.nn.functional.pad(best, (0, k - best.shape[1]))


def steer(scores: Tensor, steering: Tensor) -> Tensor:
    """Standardises each row of scores and adds the steering.

    Scores of minus infinity take no part in mean and deviation. Rows of equal scores become 0.

    Shapes: [B, C], [B, C] -> [B, C].
    """
    return standardise(scores) + steering.to(scores.device, scores.dtype)


def standardise(scores: Tensor) -> Tensor:
    """Scales the finite entries of each row to mean 0 and standard deviation 1. Shapes: [B, C] -> [B, C]."""
    finite = scores.isfinite()
    count = finite.sum(1, keepdim=True).clamp(min=1)
    mean = scores.where(finite, 0).sum(1, keepdim=True) / count
    centred = scores - mean
    deviation = (centred.where(finite, 0).square().sum(1, keepdim=True) / count).sqrt()
    return centred / deviation.where(deviation > 1e-9 * mean.abs(), 1)


def _rows(batch: PaddedBatch, rows: Sequence[int]) -> PaddedBatch:
    """Some rows of a batch, with no more padding than they need."""
    lengths = batch.lengths[rows]
    return PaddedBatch(batch.items[rows, : max(1, int(lengths.max()))], lengths)


def _similar_lengths(lengths: Sequence[int], call_cost: int) -> list[list[int]]:
    """Groups row numbers for one call each: a new group begins where padding the one so far to the next
    length costs more than another call."""
    groups: list[list[int]] = []
    longest = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not groups or len(groups[-1]) * (lengths[row] - longest) > call_cost:
            groups.append([])
        groups[-1].append(row)
        longest = lengths[row]
    return groups


def _widen(items: Tensor, scores: Tensor, k: int) -> Lists:
    """Lists of k places. Shapes: [B, j], [B, j], j <= k."""
    more = k - items.shape[1]
    if not more:
        return Lists(items, scores)
    pad = torch.nn.functional.pad
    return Lists(pad(items, (0, more)), pad(scores, (0, more), value=-torch.inf))


def _interleave(groups: Sequence[Tensor], parts: Sequence[Lists]) -> Lists:
    """The lists of several groups of rows as one, in the order of the rows. Scores are in the widest of
    their types, in which counts keep their order.

    Shapes: groups [B'] row numbers each.
    """
    back = torch.cat(list(groups)).argsort()
    dtype = torch.promote_types(parts[0].scores.dtype, parts[1].scores.dtype)
    return Lists(
        torch.cat([part.items.to(parts[0].items.device) for part in parts])[back],
        torch.cat([part.scores.to(parts[0].scores.device, dtype) for part in parts])[back],
    )
