"""LLMInit: the item table starts from the text, the rest is an ordinary ID system."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field

from seqloom.backbones.config import TextSASRecEncoderConfig, TextStartEncoderConfig
from seqloom.systems.base import TrainingData
from seqloom.systems.id_only import IDConfig, IDSystem
from seqloom.systems.ranking_loss import OffsetLossConfig
from seqloom.systems.text_start import scaled_pca
from seqloom.text.store import load_embeddings


class LLMInitConfig(IDConfig):
    """LLMInit over any encoder."""

    text: str | None = None
    """Name of the text embedding; the data set's default one if not given."""
    initial_std: float = Field(0.12, gt=0)
    """Standard deviation of the item table at the start."""
    whitening: float = Field(0.5, ge=0, le=1)
    """Each component is divided by its standard deviation to this power before."""
    scale_inputs: bool = False
    """Multiply item vectors by sqrt(hidden_size) before a transformer. Source: Vaswani et al. 2017,
    section 3.4."""
    encoder: TextStartEncoderConfig = Field(default_factory=TextSASRecEncoderConfig)
    """The sequence encoder."""
    loss: OffsetLossConfig = Field(default_factory=OffsetLossConfig)
    """The ranking loss."""


class LLMInit(IDSystem[LLMInitConfig]):
    """An ID system whose table starts as the principal components of the items' text.

    Source: Harte et al., RecSys 2023, section 3.3; Liu et al., NeurIPS 2024 (LLM-ESR), section 4.1.
    Differs: the components are partly whitened and scaled to one standard deviation, which fits the
    encoder's inputs.
    """

    name: ClassVar[str] = "llminit"
    config_class: ClassVar[type[LLMInitConfig]] = LLMInitConfig
    uses_text: ClassVar[bool] = True

    def initialise(self, data: TrainingData) -> None:
        """Start the item table from the text embedding."""
        text = load_embeddings(data.dataset, self.config.text).items
        width, std = self.config.encoder.hidden_size, self.config.initial_std
        with torch.no_grad():
            self.items.copy_(scaled_pca(text, width, std, self.config.whitening))
