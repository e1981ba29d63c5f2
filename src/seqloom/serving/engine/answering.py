"""A batch of queries against one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seqloom.core.errors import ServingError
from seqloom.core.protocols import ListScorer, VectorScorer
from seqloom.inference.top_k import top_scores
from seqloom.serving.engine.catalogue import Snapshot
from seqloom.serving.engine.explaining import explain
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.engine.queries import Answer, Explain, Query, Recommend, Scored, Similar

_PADDING_WORTH_A_CALL = 48
"""Padded positions that cost about as much as one more call of the encoder."""
NO_HISTORY = "the user has no history"
NOTHING_KNOWN = "no item of the history is known to the model"

Histories = Mapping[str, Sequence[str]]


class UnknownItemError(ServingError):
    """An item that a query is about is not in the catalogue."""


@dataclass(slots=True)
class _Row:
    """A query in the model's numbers."""

    query: Recommend
    history: list[int]
    hidden: list[int]
    """Columns never to be given."""
    candidates: list[int] | None
    unknown: dict[str, list[str]] = field(default_factory=dict)


@torch.inference_mode()
def answer(
    model: ServedModel, queries: Sequence[Query], histories: Histories
) -> list[Answer | Exception | object]:
    """Answer each query; `histories` are those of the users that the queries name."""
    snapshot = model.snapshot
    results: list[Answer | Exception | object] = [None] * len(queries)
    rows: dict[int, _Row] = {}
    for at, query in enumerate(queries):
        try:
            if isinstance(query, Recommend):
                rows[at] = _row(snapshot, query, histories)
            elif isinstance(query, Similar):
                results[at] = _similar(model, snapshot, query)
            else:
                results[at] = explain(model, snapshot, query, _history(query, histories))
        except ServingError as error:
            results[at] = error
    groups: dict[tuple[bool, bool], list[int]] = {}
    for at, row in rows.items():
        groups.setdefault((bool(row.history), row.candidates is not None), []).append(at)
    for group in groups.values():
        found = _lists(model, snapshot, [rows[at] for at in group])
        for at, each in zip(group, found, strict=True):
            results[at] = each
    return results


def _history(query: Recommend | Explain, histories: Histories) -> Sequence[str]:
    if query.history is not None:
        return query.history
    return histories.get(query.user_id or "", ())


def _row(snapshot: Snapshot, query: Recommend, histories: Histories) -> _Row:
    unknown: dict[str, list[str]] = {}

    def numbers(part: str, ids: Sequence[str]) -> list[int]:
        found = [snapshot.number(item) for item in ids]
        if not all(found):
            missing = [i for i, number in zip(ids, found, strict=True) if not number]
            unknown[part] = list(dict.fromkeys(missing))
        return [number for number in found if number]

    history = numbers("history", _history(query, histories))
    hidden = [] if query.include_seen else [number - 1 for number in history]
    hidden += [number - 1 for number in numbers("exclude", query.exclude)]
    candidates = None
    if query.candidates is not None:
        candidates = [number - 1 for number in numbers("candidates", query.candidates)]
    return _Row(query, history, hidden, candidates, unknown)


def _scores(model: ServedModel, snapshot: Snapshot, histories: Sequence[list[int]]) -> Tensor:
    """Scores of the whole catalogue. Histories of similar length are encoded together; the items' vectors,
    which are far more to read, are gone through once.

    Shapes: -> [B, N + M].
    """
    scorer = snapshot.scorer
    groups = _similar_lengths(histories, model.max_len)
    back = torch.tensor([at for group in groups for at in group]).argsort()
    parts = [[histories[at] for at in group] for group in groups]
    if isinstance(scorer, VectorScorer):
        vectors = torch.cat([scorer.queries(*model.pad(part)) for part in parts])
        return (vectors[back.to(vectors.device)] @ scorer.item_vectors.t()).float().cpu()
    return torch.cat([model.score(snapshot, part) for part in parts])[back]


def _similar_lengths(histories: Sequence[list[int]], max_len: int | None) -> list[list[int]]:
    """Positions of histories to be encoded together: a new group begins where padding the one so far to
    the next length would cost more than another call.
    """
    limit = max_len or max(map(len, histories))
    lengths = [min(len(history), limit) for history in histories]
    groups: list[list[int]] = []
    longest = 0
    for at in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not groups or len(groups[-1]) * (lengths[at] - longest) > _PADDING_WORTH_A_CALL:
            groups.append([])
        groups[-1].append(at)
        longest = lengths[at]
    return groups


def _lists(model: ServedModel, snapshot: Snapshot, rows: Sequence[_Row]) -> list[Answer]:
    """The lists of rows that are alike in having a history or none, and candidates or none."""
    empty = not rows[0].history
    k = max(row.query.k for row in rows)
    popular = model.popular(snapshot) if empty else None
    if popular is None and isinstance(snapshot.scorer, ListScorer):
        if rows[0].candidates is not None:
            return _among(model, snapshot, snapshot.scorer, rows)
        columns, values = _searched(model, snapshot, snapshot.scorer, rows, k)
    else:
        if popular is not None:
            scores = popular.repeat(len(rows), 1)
        else:
            scores = _scores(model, snapshot, [row.history for row in rows])
        _hide(scores, snapshot, rows)
        values, columns = top_scores(scores, min(k, scores.shape[1]), snapshot.keys)
    found = zip(rows, columns.tolist(), values.tolist(), strict=True)
    return [_list(model, snapshot, row, *each) for row, *each in found]


def _list(
    model: ServedModel, snapshot: Snapshot, row: _Row, columns: list[int], values: list[float]
) -> Answer:
    items = []
    for column, value in zip(columns[: row.query.k], values, strict=False):
        if value == float("-inf"):
            break
        if value != value or value == float("inf"):
            raise ServingError(f"model {model.name!r} gave a score that is not finite")
        items.append(Scored(snapshot.ids[column], value, column + 1))
    told = None
    if not row.history:
        told = NOTHING_KNOWN if row.unknown.get("history") else NO_HISTORY
    return Answer(model.name, model.version, items, len(row.history), row.unknown, told)


def _searched(
    model: ServedModel, snapshot: Snapshot, scorer: ListScorer, rows: Sequence[_Row], k: int
) -> tuple[Tensor, Tensor]:
    """The best columns and their scores by the model's own search. Shapes: -> [B, k], [B, k]."""
    removed = snapshot.columns.tolist()
    hidden = [[column + 1 for column in (*row.hidden, *removed)] for row in rows]
    longest = max(map(len, hidden))
    seen = torch.tensor([line + [0] * (longest - len(line)) for line in hidden], dtype=torch.int64)
    items, lengths = model.pad([row.history for row in rows])
    among = min(k, scorer.num_items)
    found, values = scorer.best(items, lengths, among, seen.to(items.device) if longest else None)
    return found.cpu() - 1, values.float().cpu()


def _among(
    model: ServedModel, snapshot: Snapshot, scorer: ListScorer, rows: Sequence[_Row]
) -> list[Answer]:
    """The candidates by their exact scores, without scoring the rest of the catalogue."""
    wanted = []
    for row in rows:
        hidden = snapshot.removed | {column + 1 for column in row.hidden}
        wanted.append(sorted({column + 1 for column in row.candidates or ()} - hidden))
    width = max(map(len, wanted))
    if not width:
        return [_list(model, snapshot, row, [], []) for row in rows]
    numbers = torch.tensor([line + [0] * (width - len(line)) for line in wanted])
    items, lengths = model.pad([row.history for row in rows])
    scores = scorer.score_candidates(items, lengths, numbers.to(items.device)).float().cpu()
    values, places = scores.sort(1, descending=True)
    columns = numbers.gather(1, places) - 1
    found = zip(rows, columns.tolist(), values.tolist(), strict=True)
    return [_list(model, snapshot, row, *each) for row, *each in found]


def _hide(scores: Tensor, snapshot: Snapshot, rows: Sequence[_Row]) -> None:
    """Set to minus infinity what must not be given, in place. Shapes: scores [B, N]."""
    nothing = float("-inf")
    if len(snapshot.columns):
        scores[:, snapshot.columns] = nothing
    lines = [line for line, row in enumerate(rows) for _ in row.hidden]
    if lines:
        columns = [column for row in rows for column in row.hidden]
        scores[lines, columns] = nothing
    for line, row in enumerate(rows):
        if row.candidates is not None:
            kept = scores[line, row.candidates]
            scores[line] = nothing
            scores[line, row.candidates] = kept


def _similar(model: ServedModel, snapshot: Snapshot, query: Similar) -> Answer:
    number = snapshot.number(query.item_id)
    if not number:
        raise UnknownItemError(f"model {model.name!r} does not know item {query.item_id!r}")
    scorer = snapshot.scorer
    if isinstance(scorer, VectorScorer):
        vectors = scorer.item_vectors
        scores = torch.nn.functional.cosine_similarity(vectors, vectors[number - 1 : number]).cpu()
        method = "cosine of the model's item vectors"
    else:
        method = "score after a history of this item alone"
        if isinstance(scorer, ListScorer):
            row = _Row(Recommend(k=query.k), [number], [number - 1], None)
            columns, values = _searched(model, snapshot, scorer, [row], query.k)
            found = _list(model, snapshot, row, columns[0].tolist(), values[0].tolist())
            return Answer(model.name, model.version, found.items, method=method)
        scores = model.score(snapshot, [[number]])[0]
    scores = scores.float()
    scores[number - 1] = float("-inf")
    if len(snapshot.columns):
        scores[snapshot.columns] = float("-inf")
    values, columns = top_scores(scores[None], min(query.k, len(scores)), snapshot.keys)
    items = [
        Scored(snapshot.ids[column], value, column + 1)
        for column, value in zip(columns[0].tolist(), values[0].tolist(), strict=True)
        if value > float("-inf")
    ]
    return Answer(model.name, model.version, items, method=method)
