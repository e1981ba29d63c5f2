"""Explains a score: the contribution of each item of the history and of each view of the model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqloom.core.errors import ServingError
from seqloom.core.protocols import ListScorer, VectorScorer
from seqloom.data.sequences import Sequences
from seqloom.serving.engine.catalogue import Snapshot
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.engine.queries import Contribution, Explain, Explanation, ViewPart
from seqloom.serving.engine.ranks import rank_in

_MOST_LEFT_OUT = 100
"""Items of the history that are left out in turn, the most recent ones, for models of any length."""


class NothingToExplainError(ServingError):
    """There is no history, or the item is unknown."""


def explain(
    model: ServedModel, snapshot: Snapshot, query: Explain, history: Sequence[str]
) -> Explanation:
    """Leaves each item out in turn and measures the change of the score.

    Raises:
        NothingToExplainError: no item of the history is known, or the item is unknown.
    """
    known = [(item, number) for item in history if (number := snapshot.number(item))]
    missing = list(dict.fromkeys(item for item in history if not snapshot.number(item)))
    if not known:
        raise NothingToExplainError(
            "there is no history to explain from: no item of it is known to the model"
        )
    read = known[-min(model.max_len or _MOST_LEFT_OUT, _MOST_LEFT_OUT) :]
    numbers = [number for _, number in read]
    whole = model.score(snapshot, [numbers])[0]
    seen = [number for _, number in known] if model.masks_seen else []
    target = _target(snapshot, query, whole, seen)
    without = [numbers[:i] + numbers[i + 1 :] for i in range(len(numbers))]
    scores = _scores_of(model, snapshot, without, target)
    score = float(whole[target - 1])
    keys = snapshot.ranker.keys
    offered = snapshot.ranker.hide(whole[None].clone(), Sequences.from_lists([seen]))[0]
    carried = [
        Contribution(item, position, score - left)
        for position, ((item, _), left) in enumerate(zip(read, scores.tolist(), strict=True))
    ]
    return Explanation(
        served=model,
        item_id=snapshot.ids[target - 1],
        score=score,
        rank=1 + int((whole > score).sum()),
        list_rank=rank_in(offered, target, None if keys is None else keys.cpu()),
        rankable=int((offered > -torch.inf).sum()),
        history=sorted(carried, key=lambda each: -each.change),
        views=_views(model, snapshot, numbers, target),
        unknown={"history": missing} if missing else {},
    )


def _target(snapshot: Snapshot, query: Explain, whole: Tensor, seen: Sequence[int]) -> int:
    """Returns the number of the item to explain: the one named, else the best one outside `seen`."""
    if query.item_id is not None:
        number = snapshot.number(query.item_id)
        if not number:
            raise NothingToExplainError("the model does not know the item")
        return number
    scores = snapshot.ranker.hide(whole[None].clone(), Sequences.from_lists([seen]))
    best = int(snapshot.ranker.top(scores, 1).items)
    if not best:
        raise NothingToExplainError(
            "the history holds the whole catalogue; nothing is left to explain"
        )
    return best


def _scores_of(
    model: ServedModel, snapshot: Snapshot, histories: list[list[int]], target: int
) -> Tensor:
    """Scores the target after each history. Shapes: -> [B]."""
    scorer = snapshot.scorer
    if isinstance(scorer, VectorScorer):
        queries = scorer.queries(*model.pad(histories))
        return (queries @ scorer.item_vectors[target - 1]).float().cpu()
    if isinstance(scorer, ListScorer):
        return (
            scorer.restrict_to(torch.tensor([target]))
            .score(*model.pad(histories))[:, 0]
            .float()
            .cpu()
        )
    return torch.stack([model.score(snapshot, [each])[0, target - 1] for each in histories])


def _views(
    model: ServedModel, snapshot: Snapshot, numbers: list[int], target: int
) -> dict[str, ViewPart]:
    scorer = snapshot.scorer
    if not model.views or not isinstance(scorer, VectorScorer):
        return {}
    query = scorer.queries(*model.pad([numbers]))[0]
    parts = {}
    for view, columns in model.views.items():
        along = scorer.item_vectors[:, columns] @ query[columns]
        parts[view] = (float(along[target - 1]), float(along[target - 1] - along.mean()))
    total = sum(abs(advantage) for _, advantage in parts.values()) or 1.0
    return {
        view: ViewPart(score, advantage, abs(advantage) / total)
        for view, (score, advantage) in parts.items()
    }
