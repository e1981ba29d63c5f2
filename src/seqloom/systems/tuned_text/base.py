"""The interface of text encoders that are tuned, and their validation by text neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from seqloom.core.phase import Phase
from seqloom.core.protocols import Scorer
from seqloom.systems.base import Sizes
from seqloom.systems.config import TextKNNConfig
from seqloom.systems.textknn import TextKNN


class TunedEncoder(Protocol):
    """A text encoder under tuning."""

    @property
    def module(self) -> nn.Module:
        """Everything that checkpoints hold."""

    def phase(self) -> Phase:
        """Returns the training phase."""

    def item_vectors(self) -> Tensor:
        """Returns the present vectors of the catalogue. Shapes: [N, E]."""

    def save(self, folder: Path) -> None:
        """Writes a folder that `build_encoder` reads."""


def neighbour_scorer(vectors: Tensor, config: TextKNNConfig) -> Scorer:
    """Returns textknn over these text vectors. Shapes: [N, E]."""
    system = TextKNN(config, Sizes(num_items=len(vectors), text_size=vectors.shape[1]))
    system.fit(vectors)
    return system.scorer()
