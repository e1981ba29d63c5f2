"""`recommend`: the next items for users of the data set, or for bare histories of item ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from pydantic import Field

from seqloom.core.batching import split_padded
from seqloom.core.config import Config
from seqloom.core.errors import ArtefactError, ConfigError, DataError
from seqloom.core.progress import SILENT, Progress
from seqloom.core.protocols import ListScorer, Scorer
from seqloom.data.codes import match_ids
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset
from seqloom.evaluation.ranking import best_items, mask_items
from seqloom.inference.cold_start import with_popular
from seqloom.runs.ann_scorer import approximate_scorer
from seqloom.runs.folder import Run, load_run
from seqloom.runs.popularity import training_counts

AT_ONCE = 256
"""Histories that are ranked together; a job in shards keeps these blocks whole."""
_SCORES_AT_ONCE = 64 << 20
_SEEN_AT_ONCE = 4 << 20
"""Of a large catalogue fewer histories: a block is halved until its scores are no more than this."""


class RecommendedItem(Config):
    """One entry of a list."""

    item_id: str
    title: str | None = None
    """What the item is called, where the catalogue says."""
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


def recommend(
    run: Run | str | Path,
    *,
    histories: Sequence[Sequence[str]] | None = None,
    users: Iterable[str] | None = None,
    all_users: bool = False,
    k: int = 10,
    mask_seen: bool = True,
    dataset: Dataset | str | Path | None = None,
    device: str = "auto",
    approximate: bool = False,
    progress: Progress = SILENT,
) -> list[Recommendation]:
    """The `k` best items for each history of item ids, or for each (or every) user with all stored
    events.

    A history may be of anybody and of any length; ids that the catalogue does not hold are left out
    and named in the answer. An empty history gets what is popular, whatever the system.

    Args:
        approximate: search an index of the items and not all of them; see `approximate_scorer`.

    Raises:
        ConfigError: neither or both of `histories` and `users` are given, or `k` is below 1, or
            an approximate search is asked for and cannot be (see `approximate_scorer`).
        DataError: a user is not in the data set, or a history holds no known item at all.
        ArtefactError: a history is empty, and the run does not know what is popular.
    """
    if (histories is not None) + (users is not None) + all_users != 1:
        raise ConfigError("give either histories, or users, or ask for all users")
    if k < 1:
        raise ConfigError(f"k is {k}; it must be at least 1")
    run = run if isinstance(run, Run) else load_run(run, device=device)
    if histories is not None:
        names: list[str | None] = [None] * len(histories)
        rows, unknown = _numbers(run, histories)
    else:
        data = (dataset if isinstance(dataset, Dataset) else run.dataset(dataset)).warm
        ids = data.user_ids if all_users else match_ids(users or [], data.user_numbers)
        names = list(ids)
        rows, unknown = _stored(data, ids), [[] for _ in ids]
    scorer = run.scorer
    if approximate:
        scorer = approximate_scorer(run, dataset=dataset, progress=progress)
    scorer = _for_everyone(run, scorer, rows)
    lists = _rank(run, scorer, rows, k, mask_seen, progress)
    return [
        Recommendation(user=name, items=items, unknown=missing)
        for name, items, missing in zip(names, lists, unknown, strict=True)
    ]


def _for_everyone(run: Run, scorer: Scorer, rows: Sequences) -> Scorer:
    """The scorer with an answer to empty histories, if there are any."""
    if bool((rows.lengths > 0).all()):
        return scorer
    counts = training_counts(run)
    if counts is None:
        raise ArtefactError(
            f"a history is empty, and {run.path} does not know what is popular: it was made by an older "
            "seqloom and its data set is gone; leave that history out, or train again"
        )
    later = scorer.num_items - len(counts)  # items put in after training
    return with_popular(scorer, torch.nn.functional.pad(counts, (0, later)), run.tie_keys)


def _rank(
    run: Run, scorer: Scorer, rows: Sequences, k: int, mask_seen: bool, progress: Progress
) -> list[list[RecommendedItem]]:
    lists: list[list[RecommendedItem]] = []
    with torch.inference_mode(), progress.task("recommend", len(rows), "users") as task:
        at_once = AT_ONCE
        while at_once > 1 and at_once * scorer.num_items > _SCORES_AT_ONCE:
            at_once //= 2
        blocks = torch.arange(len(rows)).split(at_once)
        for part in (p for b in blocks for p in split_padded(b, rows.lengths, _SEEN_AT_ONCE)):
            histories = rows.select(part)
            batch = histories.pad(run.system.max_len).to(run.device)
            if isinstance(scorer, ListScorer):
                seen = histories.pad().items.to(run.device) if mask_seen else None
                top, values = scorer.best(batch.items, batch.lengths, k, seen)
            else:
                scores = scorer.score(batch.items, batch.lengths)
                if mask_seen:
                    mask_items(scores, histories)
                top = best_items(scores, k, run.tie_keys)
                values = scores.gather(1, (top - 1).clamp(min=0))
            for numbers, found in zip(top.tolist(), values.tolist(), strict=True):
                lists.append(
                    [
                        RecommendedItem(
                            item_id=run.item_ids[number - 1],
                            title=run.titles[number - 1],
                            score=score,
                        )
                        for number, score in zip(numbers, found, strict=True)
                        if number
                    ]
                )
            task.advance(len(part))
    return lists


def _numbers(run: Run, histories: Sequence[Sequence[str]]) -> tuple[Sequences, list[list[str]]]:
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


def _stored(data: Dataset, users: Sequence[str]) -> Sequences:
    missing = [user for user in users if user not in data.user_numbers]
    if missing:
        raise DataError(
            f"{len(missing)} user(s) are not in the data set, first {missing[0]!r}; its ids look "
            f"like {', '.join(data.user_ids[:3])}; for somebody else give a history"
        )
    rows = torch.tensor([data.user_numbers[user] for user in users], dtype=torch.int64)
    offsets = data.events.offsets
    return Sequences(data.events.items, offsets[:-1][rows], offsets[1:][rows])
