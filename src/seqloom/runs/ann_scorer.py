"""Scores by an approximate index: it gives candidates, which are scored exactly; its recall is measured."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError, SeqloomError
from seqloom.core.progress import SILENT, Progress
from seqloom.core.protocols import ListScorer, Scorer, VectorScorer
from seqloom.core.random import generator
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset
from seqloom.inference.ann_index import ApproximateIndex, Recall
from seqloom.nn.item_product import ItemProduct
from seqloom.runs.trained_run import TrainedRun

RECALL = 0.95
_K = 10
_SAMPLE = 512
"""Histories: half tune the index, half measure its recall."""
_SAMPLING = 0.02
"""A recall this little below its target may be due to the sample."""
_AT_ONCE = 64
_DRAWN_LENGTH = 10
"""Items of a random history, where the data set is missing."""


class ApproximateScorer:
    """A scorer whose lists come from an index over its item vectors; all its scores stay exact.

    Items added after the index was built are all scored.
    """

    list_size = 100

    def __init__(self, scorer: VectorScorer, index: ApproximateIndex, recall: Recall) -> None:
        self._scorer, self._index = scorer, index
        self.recall = recall
        """The recall of the index against exact lists."""
        self.num_items = scorer.num_items
        self.item_vectors = scorer.item_vectors
        self.score_queries = scorer.score_queries

    def extend_to(self, scorer: Scorer) -> ApproximateScorer:
        """Returns the same index for a scorer with more items behind the same first ones."""
        assert isinstance(scorer, VectorScorer)
        return ApproximateScorer(scorer, self._index, self.recall)

    def queries(self, items: Tensor, lengths: Tensor) -> Tensor:
        """See `VectorScorer`. Shapes: [B, L], [B] -> [B, D']."""
        return self._scorer.queries(items, lengths)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Scores all items exactly. Shapes: [B, L], [B] -> [B, N]."""
        return self._scorer.score(items, lengths)

    def score_candidates(self, items: Tensor, lengths: Tensor, candidates: Tensor) -> Tensor:
        """See `ListScorer`. Shapes: [B, L], [B], [B, C] -> [B, C]."""
        rows = self.item_vectors[(candidates - 1).clamp(min=0)]  # [B, C, D']
        scores = torch.einsum("bd,bcd->bc", self.queries(items, lengths), rows)
        return scores.masked_fill(candidates == 0, -torch.inf)

    def exact_scorer(self) -> Scorer:
        """See `ListScorer`."""
        return self._scorer

    def restrict_to(self, numbers: Tensor) -> Scorer:
        """See `ListScorer`. Shapes: numbers [C]."""
        return _ItemSubset(self._scorer, numbers)

    def best(
        self, items: Tensor, lengths: Tensor, k: int, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `ListScorer`. Shapes: [B, L], [B], [B, S] -> [B, k], [B, k]."""
        queries = self.queries(items, lengths).float().cpu()
        without = None if seen is None else seen.cpu() - 1
        first = self._index.rows
        indexed = None if without is None else without.masked_fill(without >= first, -1)
        scores, rows = self._index.best(queries, k, indexed)
        later = self.item_vectors[first:].float().cpu()
        if len(later):
            late = queries @ later.t()  # [B, M]
            if without is not None:
                line, at = torch.nonzero(without >= first, as_tuple=True)
                late[line, without[line, at] - first] = -torch.inf
            numbers = torch.arange(first, self.num_items).expand(len(late), -1)
            scores, at = torch.cat([scores, late], 1).topk(k, dim=1)
            rows = torch.cat([rows, numbers], 1).gather(1, at)
        return torch.where(scores == -torch.inf, 0, rows + 1), scores


class _ItemSubset:
    """Scores some items alone, exactly."""

    def __init__(self, scorer: VectorScorer, numbers: Tensor) -> None:
        self._scorer = scorer
        self.num_items = len(numbers)
        rows = (numbers - 1).to(scorer.item_vectors.device)
        self._product = ItemProduct(scorer.item_vectors[rows])

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Shapes: [B, L], [B] -> [B, C]."""
        return self._product(self._scorer.queries(items, lengths))


def can_search(scorer: Scorer) -> bool:
    """Returns whether an index can serve the scorer: its score is a dot product, with one vector an item."""
    return isinstance(scorer, VectorScorer) and not isinstance(scorer, ListScorer)


@torch.inference_mode()
def approximate_scorer(
    run: TrainedRun,
    *,
    target: float = RECALL,
    dataset: Dataset | str | Path | None = None,
    progress: Progress = SILENT,
) -> ApproximateScorer:
    """Builds an index over the items of a run that reaches about `target` recall.

    The recall is measured on histories of the run's data set, with seen items left out; where the data set is
    missing, on histories drawn by popularity. `progress` reports it. The same run gives the same index.

    Raises:
        ConfigError: the system does not score by a dot product, or faiss is not installed.
    """
    scorer = run.scorer
    if not can_search(scorer):
        raise ConfigError(
            f"approximate search is for systems that score by a dot product; {run.system.name} does "
            "not, so leave --approximate out"
        )
    assert isinstance(scorer, VectorScorer)
    progress.note(f"building an index of {scorer.num_items:,} items")
    index = ApproximateIndex(scorer.item_vectors)
    histories, source = sample_histories(run, dataset)
    batch = histories.pad(run.system.max_len).to(run.device)
    parts = torch.arange(len(histories)).split(_AT_ONCE)
    queries = torch.cat([scorer.queries(batch.items[p], batch.lengths[p]) for p in parts])
    recall = index.tune(queries, min(_K, scorer.num_items), target, batch.items.cpu() - 1)
    report = progress.note if recall.recall >= target - _SAMPLING else progress.warn
    report(f"{run.name}, approximate: {recall} ({source})")
    return ApproximateScorer(scorer, index, recall)


def sample_histories(
    run: TrainedRun, dataset: Dataset | str | Path | None
) -> tuple[Sequences, str]:
    """Returns histories to measure on, none of them empty, and their source in words."""
    draw = generator(0, "recall of recommendations")
    try:
        data = dataset if isinstance(dataset, Dataset) else run.dataset(dataset)
    except SeqloomError:
        counts = run.popularity
        weights = torch.ones(len(run.item_ids)) if counts is None else counts.double() + 1
        cumulative = weights.double().cumsum(0)
        points = torch.rand(_SAMPLE, _DRAWN_LENGTH, generator=draw, dtype=torch.float64)
        drawn = torch.searchsorted(cumulative, points * cumulative[-1]).clamp(max=len(weights) - 1)
        how = "by chance" if counts is None else "by popularity"
        return Sequences.from_lists((drawn + 1).tolist()), f"histories drawn {how}"
    events = data.warm.events
    full = torch.nonzero(events.offsets.diff() > 0).flatten()
    rows = full[torch.randperm(len(full), generator=draw)[:_SAMPLE]]
    rows = rows.repeat(2) if len(rows) == 1 else rows
    starts, ends = events.offsets[:-1][rows], events.offsets[1:][rows]
    return Sequences(events.items, starts, ends), "histories of the data set"
