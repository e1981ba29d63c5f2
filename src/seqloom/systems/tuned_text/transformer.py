"""A language model tuned by the log as a text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from seqloom.core.phase import Phase
from seqloom.hub.quiet import quiet_transformers
from seqloom.systems.base import TrainingData
from seqloom.systems.tuned_text.base import teacher_vectors
from seqloom.systems.tuned_text.config import TransformerTuningConfig
from seqloom.systems.tuned_text.contrastive import ContrastivePhase
from seqloom.systems.tuned_text.item_texts import ItemTexts
from seqloom.systems.tuned_text.language_model import choose_parameters, load_model, merge_adapters
from seqloom.systems.tuned_text.tower import EncoderTower

_BLOCK = 1024


class TransformerEncoder:
    """A language model under tuning; see `TunedEncoder`."""

    def __init__(
        self,
        name: str,
        config: TransformerTuningConfig,
        data: TrainingData,
        device: torch.device,
    ) -> None:
        self.config = config
        self.device = device
        self._data = data
        model = load_model(name, config, data.progress).to(device)
        self.texts = ItemTexts(model, config, data.dataset, device)
        choose_parameters(model, config)
        self.tower = EncoderTower(model, config, data.dataset.num_items).to(device)

    @property
    def module(self) -> nn.Module:
        """See `TunedEncoder`."""
        return self.tower

    def phases(self) -> Sequence[Phase]:
        """See `TunedEncoder`."""
        teacher = teacher_vectors(self.config.teacher, self.texts.texts, self._data)
        return [ContrastivePhase(self.tower, self.config, self._data.dataset, self.encode, teacher)]

    def encode(self, items: Tensor) -> Tensor:
        """Encodes the texts of items; see `ItemTexts.encode`. Shapes: items [M] -> [M, E]."""
        return self.texts.encode(items, self.tower)

    @torch.no_grad()
    def item_vectors(self) -> Tensor:
        """See `TunedEncoder`. Finds each item's neighbours, to be drawn as negatives. Shapes: [N, E]."""
        self.tower.eval()
        vectors = self.encode(torch.arange(1, len(self.texts.texts) + 1)).float()
        if self.config.negatives and len(vectors) > 1:
            k = self.tower.neighbours.shape[1]
            for rows in torch.arange(len(vectors), device=self.device).split(_BLOCK):
                scores = vectors[rows] @ vectors.T
                scores[torch.arange(len(rows), device=self.device), rows] = -torch.inf
                self.tower.neighbours[rows] = scores.topk(k).indices + 1
        return vectors.cpu()

    def save(self, folder: Path) -> None:
        """See `TunedEncoder`. Adapters are merged."""
        model = self.tower.model
        merge_adapters(model)
        with quiet_transformers():
            model.save(str(folder), create_model_card=False)
