"""The training phase of a language model as a text encoder: softmax over the items of a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from seqloom.core.phase import Mean, Optimisation, Steps
from seqloom.data.batches import TrainingBatch, training_rows
from seqloom.data.store import Dataset
from seqloom.systems.tuned_text.batches import TRANSFORMER_PHASE, contrastive_steps
from seqloom.systems.tuned_text.config import TransformerTuningConfig
from seqloom.systems.tuned_text.tower import EncoderTower


class ContrastivePhase:
    """Predicts each next item of a history among the batch's distinct items and mined negatives.

    Every item of a batch is encoded once; it serves in histories, as a target and as a negative. The items of
    a target's own history are no negatives, as in ranking.

    Source: Yi et al., RecSys 2019, eq. 3 (softmax in the batch, logQ correction).
    """

    name = TRANSFORMER_PHASE
    validated = True

    def __init__(
        self,
        module: EncoderTower,
        config: TransformerTuningConfig,
        dataset: Dataset,
        encode: Callable[[Tensor], Tensor],
        teacher: Tensor | None = None,
    ) -> None:
        """`encode` maps item numbers [C] to vectors [C, E]; `teacher` has rows of length 1, [N, E']."""
        self.module = module
        self.config = config
        self.optimisation: Optimisation = config.optimisation()
        self.rows = training_rows(dataset.train, config.max_len, "windows")
        self._encode = encode
        self._log_count = config.correction * (dataset.popularity.double() + 1).log().float()
        self._teacher = teacher

    def steps(self, epoch: int) -> Steps:
        """Returns the batches of an epoch."""
        return contrastive_steps(self.rows, self.config, epoch)

    def loss(self, batch: TrainingBatch) -> dict[str, Mean]:
        """Returns the cross-entropy of the targets, and of the teacher's distribution where there is one."""
        items, places = batch.inputs.items, batch.places
        targets = batch.targets.flatten()[places]
        candidates = self._candidates(items, targets)  # [C], ascending
        vectors = self._encode(candidates)
        inputs = torch.searchsorted(candidates, items.clamp(min=int(candidates[0])))
        real = (items > 0)[..., None]
        states = self.module.queries(vectors[inputs] * real).flatten(0, 1)[places]  # [M, E]
        truth = torch.searchsorted(candidates, targets)
        seen = torch.zeros(len(items), len(candidates), dtype=torch.bool, device=items.device)
        row, place = real[..., 0].nonzero(as_tuple=True)
        seen[row, inputs[row, place]] = True
        hidden = seen[places // items.shape[1]]
        hidden[torch.arange(len(truth), device=truth.device), truth] = False
        logits = (states @ vectors.T).float() - self._log_count.to(items.device)[candidates]
        logits = logits.masked_fill(hidden, -torch.inf)
        parts = {"rank": Mean(F.cross_entropy(logits, truth), batch.num_targets)}
        if self._teacher is not None:
            parts["teacher"] = self._distil(batch, candidates, inputs, states @ vectors.T, hidden)
        return parts

    def _candidates(self, items: Tensor, targets: Tensor) -> Tensor:
        """Returns the distinct items of a batch and mined negatives. Shapes: [B, L], [M] -> [C]."""
        own = torch.cat([items[items > 0], targets]).unique()
        neighbours = self.module.neighbours
        wanted = min(self.config.negatives, len(targets))
        if not wanted or not neighbours.shape[1]:
            return own
        chosen = targets[torch.randperm(len(targets), device=targets.device)[:wanted]]
        column = torch.randint(neighbours.shape[1], (wanted,), device=targets.device)
        mined = neighbours[chosen - 1, column]
        return torch.cat([own, mined[mined > 0]]).unique()

    def _distil(
        self,
        batch: TrainingBatch,
        candidates: Tensor,
        inputs: Tensor,
        logits: Tensor,
        hidden: Tensor,
    ) -> Mean:
        """Returns the cross-entropy of the teacher's softmax over the candidates."""
        assert self._teacher is not None
        config = self.config
        teacher = self._teacher.to(logits.device)[candidates - 1]
        real = (batch.inputs.items > 0)[..., None]
        sums = _recency_sums(teacher[inputs] * real, config.decay).flatten(0, 1)[batch.places]
        wanted = F.normalize(sums, dim=-1) @ teacher.T / config.temperature
        shares = wanted.masked_fill(hidden, -torch.inf).softmax(-1)
        own = (
            logits.float().masked_fill(hidden, -torch.inf).log_softmax(-1).masked_fill(hidden, 0.0)
        )
        value = -(shares * own).sum(-1).mean()
        return Mean(config.teacher_weight * value, batch.num_targets)


def _recency_sums(x: Tensor, decay: float) -> Tensor:
    """Returns decaying sums up to each position. Shapes: [B, L, E] -> [B, L, E]."""
    age = torch.arange(x.shape[1], device=x.device)
    age = age[:, None] - age
    return torch.where(age >= 0, decay ** age.clamp(min=0), 0.0) @ x
