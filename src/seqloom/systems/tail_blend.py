"""Blending inferred item vectors into trained ones, and the phase that chooses how much."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from seqloom.core.phase import Mean, Optimisation, Steps
from seqloom.data.sequences import Sequences

BLENDS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Candidates for k: what is inferred counts as much as k training events. 0 leaves the base as it is."""

_TINY = 1e-12
_USERS_FOR_MEAN = 4096
_ENCODED_AT_ONCE = 512
Encode = Callable[[Sequences], Tensor]
"""Histories -> their states [B, D], in evaluation mode and without gradient."""


def blend_weight(counts: Tensor, k: Tensor) -> Tensor:
    """k / (count + k): the weight of what is inferred about something with `counts` events.

    0 for k = 0 and 1 for an infinite k. Shapes: counts [M], k scalar -> [M].
    """
    return 1 / (1 + counts.clamp(min=_TINY) / k)


def matched(inferred: Tensor, trained: Tensor) -> Tensor:
    """Give inferred rows the centre and the root mean square radius of trained ones.

    A regression predicts means, so what it infers lies closer together than what it was trained on.

    Shapes: inferred [M, D], trained [M, D] -> [M, D].
    """
    off, target = inferred - inferred.mean(0), trained - trained.mean(0)
    stretch = target.square().sum(1).mean() / off.square().sum(1).mean().clamp(min=_TINY)
    return trained.mean(0) + off * stretch.sqrt()


def blended(trained: Tensor, inferred: Tensor, counts: Tensor, k: Tensor, state: Tensor) -> Tensor:
    """Move rows towards `matched` inferred ones by k / (count + k), and keep their popularity.

    A row's product with the mean state is its mean score over users, which tells how popular the item
    is. Its own events know that; what other items suggest does not, so that part stays as it was trained.

    Shapes: trained, inferred [M, D], counts [M], k scalar, state [D], the mean state -> [M, D].
    """
    change = matched(inferred, trained) - trained
    along = state / state.norm().clamp(min=_TINY)
    change = change - (change @ along)[:, None] * along
    return trained + blend_weight(counts, k)[:, None] * change


def encode_all(histories: Sequences, encode: Encode) -> Tensor:
    """Encode many histories, those of like length together. Shapes: R rows -> [R, D]."""
    order = torch.argsort(histories.lengths, stable=True)
    parts = [encode(histories.select(rows)) for rows in order.split(_ENCODED_AT_ONCE)]
    found = torch.cat(parts)
    return torch.empty_like(found).index_copy_(0, order.to(found.device), found)


def mean_state(train: Sequences, encode: Encode) -> Tensor:
    """The mean state of users after their training parts, over at most 4,096 of them. Shapes: -> [D]."""
    users = torch.nonzero(train.lengths > 0).flatten()
    step = -(-len(users) // _USERS_FOR_MEAN)
    return encode_all(train.select(users[::step]), encode).mean(0)


class BlendPhase:
    """Chooses a blend on the validation part: each epoch is a candidate, and nothing is trained.

    The first candidate is 0, the base itself, so the choice is never below it on validation.
    """

    validated = True

    def __init__(self, name: str, system: nn.Module, buffer: str) -> None:
        """`buffer` names the scalar of `system` that holds the blend."""
        self.name = name
        self.module = system
        self.optimisation = Optimisation(epochs=len(BLENDS), learning_rate=1.0)
        self._buffer = buffer

    def steps(self, epoch: int) -> Steps:
        """No batch; set the candidate."""
        self.module.get_buffer(self._buffer).fill_(BLENDS[epoch])
        return ()

    def loss(self, batch: object) -> dict[str, Mean]:
        """There is none: the phase has no steps."""
        raise AssertionError(f"phase {self.name} has no steps")
