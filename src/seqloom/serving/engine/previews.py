"""Ranks an item that does not exist, without adding it: where it would stand, and beside what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from seqloom.core.protocols import ListScorer, Scorer, VectorScorer
from seqloom.data.sequences import Sequences
from seqloom.data.tie_keys import tie_keys
from seqloom.inference.ranker import Ranker
from seqloom.serving.engine.catalogue import Snapshot
from seqloom.serving.engine.model import ServedModel
from seqloom.serving.engine.queries import Scored
from seqloom.serving.engine.ranks import rank_in

TOP = 50
"""The rank up to which an item reaches a user."""
_MOST_ITEMS = 200_000
"""Catalogues up to this size are copied for a moment."""
_MOST_SCORES = 16_000_000
_NEAREST = 4
_STAND_IN = "seqloom:preview"


@dataclass(frozen=True)
class Preview:
    """What a model would do with an item."""

    model: str
    reason: str | None = None
    """Why it cannot say; None where it can."""
    rank: int | None = None
    """Rank for the user in question; None without a known history."""
    rankable: int | None = None
    """Items that can be recommended to the user, this one included."""
    reached: int = 0
    """Users of the sample in whose top 50 it would be."""
    asked: int = 0
    """Size of the sample."""
    nearest: list[Scored] = field(default_factory=list)
    """Known items that the model takes for most alike."""


@torch.inference_mode()
def preview(
    model: ServedModel,
    attributes: Mapping[str, str],
    history: Sequence[str],
    others: Sequence[Sequence[str]],
) -> Preview:
    """Places an item with these attributes for a history, and counts whom of `others` it would reach.

    Nothing is stored and no served catalogue changes.

    Raises:
        SeqloomError: the text cannot be embedded.
    """
    if model.reader is None:
        return Preview(model.name, model.no_new_items)
    if not model.by_vectors and isinstance(model.snapshot.scorer, ListScorer):
        return Preview(model.name, "the model searches its lists and does not score every item")
    snapshot, scorer = model.catalogue.rehearse(_STAND_IN, attributes, _MOST_ITEMS)
    if scorer is None:
        return Preview(
            model.name, f"the catalogue has more than {_MOST_ITEMS:,} items, too many for a trial"
        )
    ranker = _with_item(snapshot, scorer)
    number = scorer.num_items
    numbers = _known(snapshot, history)
    rank = rankable = None
    if numbers:
        row = _scores(model, ranker, [numbers])[0]
        rank, rankable = rank_in(row, number, ranker.keys), int((row > -torch.inf).sum())
    known = [each for each in (_known(snapshot, other) for other in others) if each]
    known = known[: max(1, _MOST_SCORES // number)]
    reached = _reached(_scores(model, ranker, known), number) if known else 0
    return Preview(
        model.name, None, rank, rankable, reached, len(known), _nearest(ranker, snapshot, number)
    )


def _with_item(snapshot: Snapshot, scorer: Scorer) -> Ranker:
    keys = snapshot.ranker.keys
    longer = None if keys is None else torch.cat([keys, tie_keys([_STAND_IN])])
    return replace(snapshot.ranker, scorer=scorer, keys=longer)


def _known(snapshot: Snapshot, history: Sequence[str]) -> list[int]:
    return [number for item in history if (number := snapshot.number(item))]


def _scores(model: ServedModel, ranker: Ranker, histories: Sequence[Sequence[int]]) -> Tensor:
    """Shapes: -> [B, N + 1], minus infinity where an item cannot be recommended."""
    rows = Sequences.from_lists(histories)
    scores = ranker.score(rows).clone()
    return ranker.hide(scores, rows if model.masks_seen else None).cpu()


def _reached(scores: Tensor, number: int) -> int:
    above = (scores > scores[:, number - 1 : number]).sum(1)
    return int((above < TOP).sum())


def _nearest(ranker: Ranker, snapshot: Snapshot, number: int) -> list[Scored]:
    itself = Sequences.from_lists([[number]])
    if isinstance(ranker.scorer, VectorScorer):
        vectors = ranker.scorer.item_vectors
        alike = torch.nn.functional.cosine_similarity(vectors, vectors[number - 1 : number])
        lists = ranker.top(ranker.hide(alike[None].clone(), itself), _NEAREST)
    else:
        lists = ranker.best(itself, _NEAREST, hidden=itself)
    pairs = zip(lists.items[0].tolist(), lists.scores[0].tolist(), strict=True)
    return [Scored(snapshot.ids[n - 1], score, n) for n, score in pairs if n]
