"""Training of views that learn apart and whose scores are added."""

from __future__ import annotations

from typing import Any

from torch import nn

from seqloom.core.phase import Steps
from seqloom.systems.base import TrainingData
from seqloom.systems.sequence import RankingPhase, SequenceSystem

TEXT_ALONE = 1e3
"""Weight of the score of the text at which an untrained other score does not count."""


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
