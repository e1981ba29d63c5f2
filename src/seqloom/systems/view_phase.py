"""Training of views that learn apart and whose scores are added."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seqloom.core.phase import Steps
from seqloom.systems.base import TrainingData
from seqloom.systems.sequence import RankingPhase, SequenceSystem

TEXT_ALONE = 1e3
"""Blend from which on the score of the text is the only one."""


def score_weights(blend: Tensor) -> Tensor:
    """Returns the weights of another score and of the text's: 1 and the blend, or 0 and 1 for the text alone.

    Shapes: blend scalar -> [2].
    """
    alone = (blend >= TEXT_ALONE).to(blend.dtype)
    return torch.stack([1 - alone, alone + (1 - alone) * blend])


class ViewPhase(RankingPhase):
    """Trains one view by itself; `whole` is validated, with `weight` as its blend of the text's score.

    The text's own phase comes first; the phase of another view then stops where both together are best.
    """

    def __init__(
        self,
        view: SequenceSystem[Any],
        data: TrainingData,
        name: str,
        whole: nn.Module,
        weight: float,
    ) -> None:
        super().__init__(view, data, name)
        self._whole, self._weight = whole, weight

    def steps(self, epoch: int) -> Steps:
        """Returns the batches of an epoch."""
        self._whole.get_buffer("blend").fill_(self._weight)
        return super().steps(epoch)
