"""What every sequence encoder gives, and how one is built from a config."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from seqloom.core.config import Config
from seqloom.data.sequences import PaddedBatch

EncoderKind = Literal["sasrec"]


class EncoderConfig(Config):
    """Shape of a sequence encoder."""

    kind: EncoderKind = "sasrec"
    """Which encoder."""
    hidden_size: int = Field(128, ge=1)
    """Width D of item vectors and states."""
    num_layers: int = Field(2, ge=1)
    """Number of blocks."""
    num_heads: int = Field(2, ge=1)
    """Attention heads of a block; must divide hidden_size."""
    inner_factor: int = Field(4, ge=1)
    """Width of the feed-forward part as a multiple of hidden_size."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Dropout on inputs, attention and residuals."""
    weight_std: float = Field(0.005, gt=0)
    """Standard deviation of the weight matrices at the start. Small: the residual path, that is the last
    item's own vector, speaks first."""
    max_len: int = Field(50, ge=1)
    """Longest history read; older items are cut off."""


class SequenceEncoder(nn.Module, ABC):
    """Turns item vectors of a history into states; state t serves to predict item t + 1."""

    causal: bool
    """Whether a state depends on its own and earlier positions only."""
    max_len: int

    @abstractmethod
    def enter(self, vectors: Tensor) -> Tensor:
        """Prepare item vectors for the encoder (positions, dropout).

        Shapes: [B, L, D] -> [B, L, D].
        """

    @abstractmethod
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Encode what `enter` gave. Shapes: x [B, L, D], lengths [B] -> [B, L, D]."""


def padding_mask(x: Tensor, lengths: Tensor) -> Tensor:
    """[B, L] true where a position is real."""
    return PaddedBatch(x[..., 0], lengths).mask


def build_encoder(config: EncoderConfig) -> SequenceEncoder:
    """Make an encoder with fresh weights."""
    from seqloom.encoders.sasrec import SASRecEncoder

    return SASRecEncoder(config)
