"""LLMInit: an ID system whose item table is initialised from the text."""

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
    """Configuration of LLMInit."""

    text: str | None = None
    """Name of the text embedding; null: the default one of the data set."""
    initial_std: float = Field(0.12, gt=0)
    """Standard deviation of the initial item table."""
    whitening: float = Field(0.5, ge=0, le=1)
    """Divide each principal component by its standard deviation to this power: 0 not at all, 1 whitens."""
    scale_inputs: bool = False
    """Multiply item vectors by sqrt(hidden_size) before a transformer; has no effect on a recurrent
    network. Source: Vaswani et al. 2017, section 3.4."""
    encoder: TextStartEncoderConfig = Field(default_factory=TextSASRecEncoderConfig)
    """Sequence encoder."""
    loss: OffsetLossConfig = Field(default_factory=OffsetLossConfig)
    """Ranking loss."""


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
        """Initialises the item table from the text embedding."""
        text = load_embeddings(data.dataset, self.config.text).items
        width, std = self.config.encoder.hidden_size, self.config.initial_std
        with torch.no_grad():
            self.items.copy_(scaled_pca(text, width, std, self.config.whitening))
