"""Recommends by a run: histories in, lists of items with ids and titles out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pyarrow as pa
import torch
from pydantic import Field

from seqloom.core.batching import LIST_LIMITS, split_padded
from seqloom.core.config import Config
from seqloom.core.errors import ConfigError, DataError
from seqloom.core.progress import SILENT, Progress
from seqloom.core.tabular import Tabular, text_of
from seqloom.data.given_ids import as_histories, match_ids
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset
from seqloom.runs.ann_scorer import approximate_scorer
from seqloom.runs.steering import DEFAULT_WEIGHT, FollowedSentence, Steered, Steering, run_steering
from seqloom.runs.trained_run import TrainedRun

_STEERING: WeakKeyDictionary[TrainedRun, tuple[pa.Table, Steering]] = WeakKeyDictionary()
"""Steering of runs in memory, with the catalogue that it is of."""


class RecommendedItem(Config):
    """One entry of a list."""

    item_id: str
    title: str | None = None
    """Title of the item, where the catalogue has one."""
    score: float
    """Larger is better; comparable within one list only."""


class Recommendation(Config):
    """The list for one user or history."""

    user: str | None
    """The user's id; None for a bare history."""
    items: list[RecommendedItem]
    """Best first; fewer than k where the catalogue holds no more unseen items."""
    unknown: list[str] = Field(default_factory=list)
    """Ids of the history that the catalogue does not hold; they were left out."""
    about: FollowedSentence | None = None
    """How the sentence was understood that the list was steered by; None without one."""


class Recommendations(Tabular, list[Recommendation]):
    """Lists in the order of the request; a list that is also a table."""

    def headline(self) -> str:
        """Returns the number of lists, on one line."""
        return f"Recommendations: {len(self)} list{'s' if len(self) != 1 else ''}"

    def as_rows(self) -> list[dict[str, Any]]:
        """Returns one row an item: `list` (from 1), `user`, `rank`, `item_id`, `title`, `score`."""
        return [
            {"list": number, "user": each.user, "rank": rank, **item.model_dump()}
            for number, each in enumerate(self, start=1)
            for rank, item in enumerate(each.items, start=1)
        ]

    def __repr__(self) -> str:
        lines = [f"<{self.headline()}>"]
        for number, each in enumerate(self[:_SHOWN_LISTS], start=1):
            lines.append(f"{each.user if each.user is not None else f'history {number}'}:")
            lines += [
                f"  {rank}. {item.item_id}{f'  {item.title}' if item.title else ''}"
                f"  ({text_of(item.score)})"
                for rank, item in enumerate(each.items, start=1)
            ]
        if len(self) > _SHOWN_LISTS:
            lines.append(f"... and {len(self) - _SHOWN_LISTS:,} more lists; see to_polars()")
        return "\n".join(lines)

    __str__ = __repr__


_SHOWN_LISTS = 5


def recommend_histories(
    run: TrainedRun,
    histories: Sequence[Sequence[object]] | Sequence[object],
    *,
    k: int = 10,
    mask_seen: bool | None = None,
    approximate: bool = False,
    about: str | None = None,
    about_weight: float = DEFAULT_WEIGHT,
    dataset: Dataset | str | Path | None = None,
    progress: Progress = SILENT,
) -> Recommendations:
    """Returns the `k` best items for each history of item ids. One list of ids is one history.

    A history may be of anybody and of any length; ids that the catalogue does not hold are left out
    and named in the answer. An empty history gets what is popular, whatever the system.

    Args:
        mask_seen: leaves the items of the history out; by default as the run was trained
            (`RunManifest.mask_seen`).
        approximate: searches an index of the items and not all of them; see `approximate_scorer`.
        about: a sentence that steers the lists, such as "a gift for a gardener, nothing with perfume"; needs
            item texts and their embedding. The answer states how it was understood.
        about_weight: how strongly, in standard deviations of the system's scores; 0 or more.
        dataset: where the recall of an approximate search is measured, if not on the run's data set.

    Raises:
        ConfigError: `k` is below 1, or the system cannot search approximately; the sentence is empty or
            contradictory, no item meets its conditions, or the catalogue has no text.
        DataError: a history holds no known item at all.
        ArtefactError: a history is empty, and the run does not know what is popular.
    """
    check_k(k)
    rows, unknown = _item_numbers(run, as_histories(histories))
    steered = follow_sentence(run, about, about_weight, dataset, progress)
    lists = list_best(
        run,
        rows,
        k=k,
        mask_seen=mask_seen,
        approximate=approximate,
        steered=steered,
        dataset=dataset,
        progress=progress,
    )
    followed = steered.followed if steered else None
    return Recommendations(
        Recommendation(user=None, items=items, unknown=missing, about=followed)
        for items, missing in zip(lists, unknown, strict=True)
    )


def follow_sentence(
    run: TrainedRun,
    about: str | None,
    weight: float,
    dataset: Dataset | str | Path | None = None,
    progress: Progress = SILENT,
) -> Steered | None:
    """Returns the steering of a sentence; None without one. Raises what `run_steering` raises."""
    if about is None:
        return None
    if dataset is not None:
        data = dataset if isinstance(dataset, Dataset) else run.dataset(dataset)
        return run_steering(run, data, progress).follow(about, weight)
    items, steering = _STEERING.get(run, (None, None))
    if steering is None or items is not run.items:
        steering = run_steering(run, progress=progress)
        _STEERING[run] = (run.items, steering)
    return steering.follow(about, weight)


def list_best(
    run: TrainedRun,
    rows: Sequences,
    *,
    k: int,
    mask_seen: bool | None,
    approximate: bool = False,
    steered: Steered | None = None,
    dataset: Dataset | str | Path | None = None,
    progress: Progress = SILENT,
) -> list[list[RecommendedItem]]:
    """Returns the `k` best items for each row of item numbers; see `recommend_histories`."""
    scorer = run.scorer
    if approximate:
        scorer = approximate_scorer(run, dataset=dataset, progress=progress)
    masked = run.manifest.mask_seen if mask_seen is None else mask_seen
    ranker = run.ranker(scorer, for_empty=bool((rows.lengths == 0).any()))
    lists: list[list[RecommendedItem]] = []
    with progress.task("recommend", len(rows), "users") as task:
        for part in _blocks(rows, scorer.num_items):
            histories = rows.select(part)
            best = ranker.best(
                histories,
                k,
                hidden=histories if masked else None,
                steering=steered.steering.expand(len(part), -1) if steered else None,
            )
            for numbers, scores in zip(best.items.tolist(), best.scores.tolist(), strict=True):
                lists.append(_named(run, numbers, scores))
            task.advance(len(part))
    return lists


def check_k(k: int) -> None:
    """Checks the length of a list. Raises `ConfigError`."""
    if k < 1:
        raise ConfigError(f"k is {k}; it must be at least 1")


def _blocks(rows: Sequences, num_items: int) -> list[torch.Tensor]:
    """Splits rows into blocks that are ranked together, in order.

    A power of two at a time divides the whole blocks that shards keep, so lists do not depend on shards.
    """
    at_once = 1 << (LIST_LIMITS.rows_for(num_items).bit_length() - 1)
    blocks = torch.arange(len(rows)).split(at_once)
    return [p for block in blocks for p in split_padded(block, rows.lengths, LIST_LIMITS.cells)]


def _named(
    run: TrainedRun, numbers: Sequence[int], scores: Sequence[float]
) -> list[RecommendedItem]:
    return [
        RecommendedItem(item_id=run.item_ids[number - 1], title=run.titles[number - 1], score=score)
        for number, score in zip(numbers, scores, strict=True)
        if number
    ]


def _item_numbers(
    run: TrainedRun, histories: Sequence[Sequence[object]]
) -> tuple[Sequences, list[list[str]]]:
    """Returns the histories as item numbers, and the ids of each that the catalogue does not hold."""
    known: list[list[int]] = []
    unknown: list[list[str]] = []
    for number, history in enumerate(histories, start=1):
        ids = match_ids(history, run.item_numbers)
        known.append([run.item_numbers[i] for i in ids if i in run.item_numbers])
        unknown.append([i for i in ids if i not in run.item_numbers])
        if ids and not known[-1]:
            raise DataError(
                f"history {number} holds no item of the catalogue (found {', '.join(ids[:5])}); "
                f"its ids look like {', '.join(run.item_ids[:3])}"
            )
    return Sequences.from_lists(known), unknown
