"""BERT4Rec over item ids."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from seqloom.backbones.config import BERT4RecEncoderConfig
from seqloom.systems.id_only import IDConfig, IDSystem


class BERT4RecConfig(IDConfig):
    """Configuration of BERT4Rec; the loss is that of SASRec."""

    epochs: int = Field(200, ge=0)
    """Maximum number of epochs; masking gives an epoch fewer targets than next-item prediction."""
    batch_size: int = Field(256, ge=1)
    """Number of histories in a batch."""
    encoder: BERT4RecEncoderConfig = Field(default_factory=BERT4RecEncoderConfig)
    """Sequence encoder."""


class BERT4Rec(IDSystem[BERT4RecConfig]):
    """A bidirectional transformer over item ids, trained to fill in masked items.

    Source: Sun et al., CIKM 2019.
    Differs: the output is the item table without a bias, so that scores are dot products.
    """

    name: ClassVar[str] = "bert4rec"
    config_class: ClassVar[type[BERT4RecConfig]] = BERT4RecConfig
