"""Answers a batch of queries against one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from seqloom.core.errors import SeqloomError, ServingError, StoreError
from seqloom.core.protocols import VectorScorer
from seqloom.data.sequences import Sequences
from seqloom.inference.ranker import Lists
from seqloom.runs.steering import Steered
from seqloom.serving.engine.catalogue import Snapshot
from seqloom.serving.engine.explaining import explain
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.engine.observer import Observer
from seqloom.serving.engine.queries import Answer, Explain, Query, Recommend, Scored, Similar
from seqloom.serving.engine.ranks import ranks_among
from seqloom.serving.store.base import Store

NO_HISTORY = "the user has no history"
NOTHING_KNOWN = "no item of the history is known to the model"

Histories = Mapping[str, Sequence[str]]
"""Item ids of users, oldest first, by user id."""
QueryResult = object
"""An `Answer`, an `Explanation`, or the exception of one query alone."""


class UnknownItemError(ServingError):
    """The item of a query is not in the catalogue."""


class Answerer:
    """Answers batches for the model that is served under one name.

    A reload assigns another `model`; a running batch finishes with the model it started with.
    """

    def __init__(
        self, model: ServedModel, store: Store, history_limit: int, observer: Observer
    ) -> None:
        """`history_limit` is how many of a user's latest events are read from the store."""
        self.model = model
        self._store = store
        self._history_limit = history_limit
        self._observer = observer

    def __call__(self, queries: Sequence[Query]) -> list[QueryResult]:
        """Answers each query by the model of this moment and by the stored histories of its users."""
        users = {user for query in queries if (user := _user(query)) is not None}
        if not users:
            return answer(self.model, queries, {})
        try:
            histories = self._store.histories(sorted(users), self._history_limit)
        except StoreError as error:
            self._observer.store_error("reading histories")
            results = answer(self.model, queries, {})
            return [
                result if _user(query) is None else error
                for query, result in zip(queries, results, strict=True)
            ]
        return answer(self.model, queries, histories)


@dataclass(slots=True)
class _Row:
    """A query in the model's numbers."""

    query: Recommend
    history: list[int]
    hidden: list[int]
    """Items that the list must not hold."""
    candidates: list[int] | None
    steered: Steered | None = None
    unknown: dict[str, list[str]] = field(default_factory=dict)


@torch.inference_mode()
def answer(model: ServedModel, queries: Sequence[Query], histories: Histories) -> list[QueryResult]:
    """Answers each query; `histories` are those of the users that the queries name."""
    snapshot = model.catalogue.snapshot
    results: list[QueryResult] = [None] * len(queries)
    rows: dict[int, _Row] = {}
    for at, query in enumerate(queries):
        try:
            if isinstance(query, Recommend):
                rows[at] = _row(model, snapshot, query, histories)
            elif isinstance(query, Similar):
                results[at] = _similar(model, snapshot, query)
            else:
                results[at] = explain(model, snapshot, query, _history(query, histories))
        except SeqloomError as error:
            results[at] = error
    groups: dict[tuple[bool, bool], list[int]] = {}
    for at, row in rows.items():
        kind = (row.candidates is None, row.steered is None)
        groups.setdefault(kind, []).append(at)
    for group in groups.values():
        answers = _recommend(model, snapshot, [rows[at] for at in group])
        for at, each in zip(group, answers, strict=True):
            results[at] = each
    return results


def _user(query: Query) -> str | None:
    """The user whose stored history the query needs."""
    return None if isinstance(query, Similar) else query.user_id


def _history(query: Recommend | Explain, histories: Histories) -> Sequence[str]:
    if query.history is not None:
        return query.history
    return histories.get(query.user_id or "", ())


def _row(model: ServedModel, snapshot: Snapshot, query: Recommend, histories: Histories) -> _Row:
    unknown: dict[str, list[str]] = {}
    added, own = snapshot.added, snapshot.own

    def numbers(part: str, ids: Sequence[str]) -> list[int]:
        # As `Snapshot.number`, without a call for each item of each history.
        known = [added.get(item) or own.get(item, 0) for item in ids]
        if not all(known):
            missing = [item for item, number in zip(ids, known, strict=True) if not number]
            unknown[part] = list(dict.fromkeys(missing))
            return [number for number in known if number]
        return known

    history = numbers("history", _history(query, histories))
    include = not model.masks_seen if query.include_seen is None else query.include_seen
    hidden = [] if include else history
    if query.exclude:
        hidden = hidden + numbers("exclude", query.exclude)
    candidates = None
    if query.candidates is not None:
        candidates = numbers("candidates", query.candidates)
    steered = None
    if query.about is not None:
        steered = model.follow(snapshot, query.about, query.about_weight)
    return _Row(query, history, hidden, candidates, steered, unknown)


def _recommend(model: ServedModel, snapshot: Snapshot, rows: Sequence[_Row]) -> list[Answer]:
    """The lists of rows that all have candidates or all none, and all a sentence or all none."""
    candidates = [row.candidates for row in rows if row.candidates is not None]
    steering = [row.steered.steering for row in rows if row.steered is not None]
    lists = snapshot.ranker.best(
        Sequences.from_lists([row.history for row in rows]),
        max(row.query.k for row in rows),
        hidden=Sequences.from_lists([row.hidden for row in rows]),
        candidates=candidates or None,
        steering=torch.stack(steering) if steering else None,
    )
    answers: list[Answer] = []
    for row, numbers, scores in zip(rows, lists.items.tolist(), lists.scores.tolist(), strict=True):
        fallback = None
        if not row.history:
            fallback = NOTHING_KNOWN if row.unknown.get("history") else NO_HISTORY
        items = _items(model, snapshot, numbers[: row.query.k], scores)
        about = None if row.steered is None else row.steered.followed
        latest = row.history[-row.query.keep_history :] if row.query.keep_history else []
        history = tuple(snapshot.ids[number - 1] for number in latest)
        ranks, rankable = _ranks(snapshot, row)
        answers.append(
            Answer(
                model,
                items,
                len(row.history),
                row.unknown,
                fallback,
                history=history,
                about=about,
                ranks=ranks,
                rankable=rankable,
            )
        )
    return answers


def _ranks(snapshot: Snapshot, row: _Row) -> tuple[dict[str, int], int | None]:
    """The ranks that a query asks for, and the number of items that can be recommended."""
    known = [(item, number) for item in row.query.rank_of if (number := snapshot.number(item))]
    if not known:
        return {}, None
    steering = None if row.steered is None else row.steered.steering
    numbers = [number for _, number in known]
    ranks, rankable = ranks_among(snapshot, row.history, row.hidden, numbers, steering)
    named = zip(known, ranks, strict=True)
    return {item: rank for (item, _), rank in named if rank is not None}, rankable


def _items(
    model: ServedModel, snapshot: Snapshot, numbers: Sequence[int], scores: Sequence[float]
) -> list[Scored]:
    """The entries of a list, up to its first empty place.

    Raises:
        ServingError: a score is not finite.
    """
    items = []
    for number, score in zip(numbers, scores, strict=False):
        if not number:
            break
        if score != score or score == float("inf"):
            raise ServingError(f"model {model.name!r} gave a score that is not finite")
        items.append(Scored(snapshot.ids[number - 1], score, number))
    return items


def _similar(model: ServedModel, snapshot: Snapshot, query: Similar) -> Answer:
    number = snapshot.number(query.item_id)
    if not number:
        raise UnknownItemError(f"model {model.name!r} does not know item {query.item_id!r}")
    ranker = snapshot.ranker
    itself = Sequences.from_lists([[number]])
    if isinstance(ranker.scorer, VectorScorer):
        method = "cosine of the model's item vectors"
        vectors = ranker.scorer.item_vectors
        cosines = torch.nn.functional.cosine_similarity(vectors, vectors[number - 1 : number])
        lists: Lists = ranker.top(ranker.hide(cosines[None], itself), query.k)
    else:
        method = "score after a history of this item alone"
        lists = ranker.best(itself, query.k, hidden=itself)
    items = _items(model, snapshot, lists.items[0].tolist(), lists.scores[0].tolist())
    return Answer(model, items, method=method)
