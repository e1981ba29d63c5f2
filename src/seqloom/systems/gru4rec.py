"""GRU4Rec over item ids."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from seqloom.backbones.config import GRU4RecEncoderConfig
from seqloom.systems.id_only import IDConfig, IDSystem


class GRU4RecConfig(IDConfig):
    """Configuration of GRU4Rec; the loss and the training keys are those of SASRec."""

    encoder: GRU4RecEncoderConfig = Field(default_factory=GRU4RecEncoderConfig)
    """Sequence encoder."""


class GRU4Rec(IDSystem[GRU4RecConfig]):
    """A recurrent network over item ids.

    Source: Hidasi et al., ICLR 2016.
    Differs: exact softmax over the catalogue in place of sampled pairwise losses, at every position.
    """

    name: ClassVar[str] = "gru4rec"
    config_class: ClassVar[type[GRU4RecConfig]] = GRU4RecConfig
