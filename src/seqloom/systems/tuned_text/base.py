"""The interface of text encoders that are tuned, and their validation by text neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from seqloom.core.errors import AssetError
from seqloom.core.phase import Phase
from seqloom.core.protocols import Scorer
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.config import TextKNNConfig
from seqloom.systems.textknn import TextKNN
from seqloom.text.encoders import build_encoder
from seqloom.text.options import EncoderOptions


class TunedEncoder(Protocol):
    """A text encoder under tuning."""

    @property
    def module(self) -> nn.Module:
        """Everything that checkpoints hold."""

    def phases(self) -> Sequence[Phase]:
        """Returns the training phases in order."""

    def item_vectors(self) -> Tensor:
        """Returns the present vectors of the catalogue. Shapes: [N, E]."""

    def save(self, folder: Path) -> None:
        """Writes a folder that `build_encoder` reads."""


def neighbour_scorer(vectors: Tensor, config: TextKNNConfig) -> Scorer:
    """Returns textknn over these text vectors. Shapes: [N, E]."""
    system = TextKNN(config, Sizes(num_items=len(vectors), text_size=vectors.shape[1]))
    system.fit(vectors)
    return system.scorer()


def teacher_vectors(teacher: str | None, texts: Sequence[str], data: TrainingData) -> Tensor | None:
    """Returns another encoder's vectors of length 1 of the texts; None without one. Shapes: -> [N, E'].

    Raises:
        AssetError: the encoder is missing or cannot be read.
    """
    if teacher is None:
        return None
    try:
        encoder = build_encoder(EncoderOptions(encoder=teacher, device="cpu"), data.progress)
        return F.normalize(encoder.encode(texts), dim=1)
    except AssetError as error:
        raise AssetError(f"teacher: {error}") from error
