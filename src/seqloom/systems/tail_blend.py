"""Blends inferred item vectors with trained ones, and the phase that chooses the weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seqloom.core.phase import Mean, Optimisation, Steps
from seqloom.data.sequences import Sequences
from seqloom.systems.answers import Answers
from seqloom.systems.base import System

BLENDS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Candidates for k: an inferred row counts as much as k training events. 0 keeps the base."""

SCORE_BLENDS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
"""Candidates for the weight of a score that is added to another. 0 is the other alone."""

_TINY = 1e-12
_USERS_FOR_MEAN = 4096
_ENCODED_AT_ONCE = 512
Encode = Callable[[Sequences], Tensor]
"""Maps histories to states [B, D], in evaluation mode and without gradient."""


def blend_weight(counts: Tensor, k: Tensor) -> Tensor:
    """Returns k / (count + k), the weight of an inferred row of an item or user with `counts` events.

    It is 0 for k = 0 and 1 for infinite k. Shapes: counts [M], k scalar -> [M].
    """
    return 1 / (1 + counts.clamp(min=_TINY) / k)


def matched(inferred: Tensor, trained: Tensor) -> Tensor:
    """Gives inferred rows the centre and the root mean square radius of trained ones.

    A regression predicts means, so its output is less spread than its training targets.

    Shapes: inferred [M, D], trained [M, D] -> [M, D].
    """
    centred, target = inferred - inferred.mean(0), trained - trained.mean(0)
    stretch = target.square().sum(1).mean() / centred.square().sum(1).mean().clamp(min=_TINY)
    return trained.mean(0) + centred * stretch.sqrt()


def blended(trained: Tensor, inferred: Tensor, counts: Tensor, k: Tensor, state: Tensor) -> Tensor:
    """Moves rows towards `matched` inferred ones by k / (count + k), and keeps their popularity.

    A row's product with the mean state is its mean score over users, which expresses how popular the item
    is. Only its own events determine that, so this component keeps its trained value.

    Shapes: trained, inferred [M, D], counts [M], k scalar, state [D], the mean state -> [M, D].
    """
    change = matched(inferred, trained) - trained
    # Remove the component along the mean state.
    along = state / state.norm().clamp(min=_TINY)
    change = change - (change @ along)[:, None] * along
    return trained + blend_weight(counts, k)[:, None] * change


def encode_all(histories: Sequences, encode: Encode) -> Tensor:
    """Encodes many histories, those of similar length together. Shapes: R rows -> [R, D]."""
    order = torch.argsort(histories.lengths, stable=True)
    parts = [encode(histories.select(rows)) for rows in order.split(_ENCODED_AT_ONCE)]
    states = torch.cat(parts)
    return torch.empty_like(states).index_copy_(0, order.to(states.device), states)


def mean_state(train: Sequences, encode: Encode) -> Tensor:
    """Returns the mean state after the training part of up to 4,096 users. Shapes: -> [D]."""
    users = torch.nonzero(train.lengths > 0).flatten()
    step = -(-len(users) // _USERS_FOR_MEAN)
    return encode_all(train.select(users[::step]), encode).mean(0)


class BlendPhase:
    """Chooses a blend on the validation part: each epoch tries a candidate, without training.

    The first candidate is 0, the base itself, so the choice is never worse than it on validation.
    """

    validated = True

    def __init__(
        self, name: str, system: nn.Module, buffer: str, candidates: Sequence[float] = BLENDS
    ) -> None:
        """`buffer` names the scalar of `system` that holds the blend."""
        self.name = name
        self.module = system
        self.optimisation = Optimisation(epochs=len(candidates), learning_rate=1.0)
        self._buffer, self._candidates = buffer, candidates

    def steps(self, epoch: int) -> Steps:
        """Sets the candidate; returns no batch."""
        self.module.get_buffer(self._buffer).fill_(self._candidates[epoch])
        return ()

    def loss(self, batch: object) -> dict[str, Mean]:
        """Never called: the phase has no steps."""
        raise AssertionError(f"phase {self.name} has no steps")


class RememberingBlendPhase(BlendPhase):
    """Chooses a blend while the system remembers: what it makes of a history serves all candidates."""

    def __init__(
        self, name: str, system: System[Any], buffer: str, candidates: Sequence[float] = BLENDS
    ) -> None:
        super().__init__(name, system, buffer, candidates)
        self._system = system

    def steps(self, epoch: int) -> Steps:
        """Sets the candidate; returns no batch."""
        if not epoch or self._system.remembered is None:
            self._system.remembered = Answers()
        return super().steps(epoch)
