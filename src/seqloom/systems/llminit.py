"""LLMInit: an ID system whose item table is initialised from the text."""

from __future__ import annotations

from typing import ClassVar

import torch

from seqloom.systems.base import TrainingData
from seqloom.systems.config import LLMInitConfig
from seqloom.systems.id_only import IDSystem
from seqloom.systems.text_start import scaled_pca
from seqloom.text.store import load_embeddings


class LLMInit(IDSystem[LLMInitConfig]):
    """An ID system whose table starts as the principal components of the items' text.

    Source: Harte et al., RecSys 2023, section 3.3; Liu et al., NeurIPS 2024 (LLM-ESR), section 4.1.
    Differs: the components are partly whitened and scaled to one standard deviation, which fits the
    encoder's inputs.
    """

    name: ClassVar[str] = "llminit"
    config_class: ClassVar[type[LLMInitConfig]] = LLMInitConfig

    def initialise(self, data: TrainingData) -> None:
        """Initialises the item table from the text embedding."""
        text = load_embeddings(data.dataset, self.config.text).items
        width, std = self.config.encoder.hidden_size, self.config.initial_std
        with torch.no_grad():
            self.items.copy_(scaled_pca(text, width, std, self.config.whitening))
