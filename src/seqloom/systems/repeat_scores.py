"""Scores with a term for the items that a history holds, and its fit to a share of repeats."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqloom.core.phase import Mean, Optimisation, Steps
from seqloom.core.protocols import Scorer
from seqloom.nn.repeats import STRETCH, RepeatTerm
from seqloom.systems.base import System, TrainingData

NEVER = -1e4
"""Term of an item of the history where the training part has no repeat."""
_MOST_USERS = 4096
_AT_ONCE = 512
_WIDEST, _HALVINGS = 100.0, 60


class RepeatScorer:
    """Adds a term to the scores of the items that a history holds."""

    def __init__(self, scorer: Scorer, repeats: RepeatTerm) -> None:
        self.num_items = scorer.num_items
        self._scorer = scorer
        self._repeats = repeats

    @torch.no_grad()
    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Scores the catalogue. Shapes: [B, L], [B] -> [B, N]."""
        scores = self._scorer.score(items, lengths)
        columns, terms = self._repeats(
            items, torch.arange(len(items), device=items.device), lengths
        )
        return scores.scatter_add_(1, columns, terms.to(scores.dtype))


def repeat_shares(data: TrainingData) -> tuple[float, ...]:
    """Returns the shares of repeats that a term is fitted to: of the training part, and of validation.

    A held-out target repeats more or less often than the events before it: a split by time holds out the
    first event of a visit, and within a visit little repeats. Where seen items are masked, validation cannot
    tell, and the share of the training part is the only one.
    """
    train = data.dataset.repeat_share
    return (train,) if data.dataset.masks_seen else (train, data.dataset.repeats.share("valid"))


class RepeatPhase:
    """Shifts the repeat term of a system whose scores were added after the term had been trained.

    It is shifted once for each of `repeat_shares`. Where seen items are ranked, validation chooses among the
    shifts and the term as it was trained.
    """

    name = "repeats"
    validated = True

    def __init__(self, system: System[Any], repeats: RepeatTerm, data: TrainingData) -> None:
        self.module = system
        self._shares = repeat_shares(data)
        # Under a mask earlier validations say nothing about the term, so they do not compete.
        self.optimisation = Optimisation(
            epochs=len(self._shares),
            learning_rate=1.0,
            chosen_among="phase" if data.dataset.masks_seen else "training",
        )
        self._repeats, self._data = repeats, data

    def steps(self, epoch: int) -> Steps:
        """Fits the shift; returns no batch."""
        share, scorer = self._shares[epoch], self.module.scorer()
        fit_repeats(self._repeats, scorer, self._data, self.module.max_len, share)
        return ()

    def loss(self, batch: object) -> dict[str, Mean]:
        """Never called: the phase has no steps."""
        raise AssertionError("the phase has no steps")


@torch.no_grad()
def fit_repeats(
    repeats: RepeatTerm, scorer: Scorer, data: TrainingData, max_len: int | None, share: float
) -> float:
    """Shifts the term of every age by one constant, so that repeats are expected as often as `share` says.

    With the constant, the softmax of the scores puts `share` on the items of a history, in the mean over
    users after their training part. With a share of 0 the constant is `NEVER`.

    Args:
        scorer: the whole score, with the present term.
        share: the share of repeats, one of `repeat_shares`.

    Returns:
        The constant.
    """
    device = repeats.recency.device
    constant = NEVER if share <= 0 else _solve(_log_odds(scorer, data, max_len, device), share)
    repeats.recency.add_(constant / STRETCH)
    return constant


def _log_odds(
    scorer: Scorer, data: TrainingData, max_len: int | None, device: torch.device
) -> Tensor:
    """Returns log(mass on items of the history / mass on others) of up to 4,096 users. Shapes: -> [U]."""
    train = data.dataset.train
    users = torch.nonzero(train.lengths > 0).flatten()
    users = users[:: -(-len(users) // _MOST_USERS)]
    odds = []
    for rows in users.split(_AT_ONCE):
        batch = train.select(rows).pad(max_len).to(device)
        scores = scorer.score(batch.items, batch.lengths).double()
        held = torch.zeros_like(scores, dtype=torch.bool)
        held = torch.nn.functional.pad(held, (1, 0)).scatter_(1, batch.items, value=True)[:, 1:]
        inside, outside = (
            scores.masked_fill(~part, -torch.inf).logsumexp(1) for part in (held, ~held)
        )
        odds.append((inside - outside).cpu())
    return torch.cat(odds)


def _solve(log_odds: Tensor, share: float) -> float:
    """Returns c with mean sigmoid(log_odds + c) = share, by bisection. Shapes: [U]."""
    low, high = -_WIDEST, _WIDEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if float(torch.sigmoid(log_odds + middle).mean()) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2
