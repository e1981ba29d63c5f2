"""Training of a recency view, whose score is added to that of the collaborative view."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqloom.core.phase import Mean, Optimisation, Steps
from seqloom.data.batches import TrainingBatch, plan_epoch, training_rows
from seqloom.systems.base import TrainingData
from seqloom.systems.ranking_loss import RankingLoss

if TYPE_CHECKING:
    from seqloom.systems.llmesr.config import LLMESRConfig
    from seqloom.systems.llmesr.recency_view import RecencyView

_EPOCHS, _LEARNING_RATE = 2, 0.02


class RecencyPhase:
    """Trains the weights and the scale of a recency view to rank next items by text alone.

    The text is constant, and a few dozen weights are trained, so two epochs are enough.
    """

    name = "text"
    validated = False

    def __init__(self, view: RecencyView, config: LLMESRConfig, data: TrainingData) -> None:
        self.module = view
        self.optimisation = Optimisation(
            epochs=_EPOCHS, learning_rate=_LEARNING_RATE, schedule="cosine"
        )
        self._config = config
        max_len = len(view.recency.log_weights)
        self._rows = training_rows(data.dataset.train, max_len, config.long_histories)
        self._ranking = RankingLoss(config.loss, data.dataset.popularity, data.processes).to(
            view.text.device
        )

    def steps(self, epoch: int) -> Steps:
        """Returns the batches of an epoch."""
        config = self._config
        return plan_epoch(self._rows, config.batch_size, config.seed, self.name, epoch)

    def loss(self, batch: TrainingBatch) -> dict[str, Mean]:
        """Returns the ranking loss of the text alone."""
        view, items = self.module, batch.inputs.items
        rows = view.text[(items - 1).clamp(min=0)]
        hidden, targets = batch.at_targets(view.states(rows, items > 0))
        return {"rank": Mean(self._ranking(hidden, view.text, targets - 1), batch.num_targets)}
