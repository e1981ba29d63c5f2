"""Scores with a term for the items that a history holds, and its fit to the share of repeats in training."""

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


class RepeatPhase:
    """Shifts the repeat term of a system whose scores were added after the term had been trained."""

    name = "repeats"
    validated = True

    def __init__(self, system: System[Any], repeats: RepeatTerm, data: TrainingData) -> None:
        self.module = system
        # Earlier validations have another term, so they do not compete.
        self.optimisation = Optimisation(epochs=1, learning_rate=1.0, chosen_among="phase")
        self._repeats, self._data = repeats, data

    def steps(self, epoch: int) -> Steps:
        """Fits the shift; returns no batch."""
        fit_repeats(self._repeats, self.module.scorer(), self._data, self.module.max_len)
        return ()

    def loss(self, batch: object) -> dict[str, Mean]:
        """Never called: the phase has no steps."""
        raise AssertionError("the phase has no steps")


@torch.no_grad()
def fit_repeats(
    repeats: RepeatTerm, scorer: Scorer, data: TrainingData, max_len: int | None
) -> float:
    """Shifts the term of every age by one constant, so that repeats are expected as often as they occur.

    With the constant, the softmax of the scores puts as much on the items of a history, in the mean over
    users, as the share of repeats among the events of the training part. Without any repeat there it is
    `NEVER`. No held-out event takes part.

    Args:
        scorer: the whole score, with the present term.

    Returns:
        The constant.
    """
    share, device = data.dataset.repeat_share, repeats.recency.device
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
