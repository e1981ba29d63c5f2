"""BERT4Rec over item ids."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from seqloom.backbones.config import BERT4RecEncoderConfig
from seqloom.systems.id_only import IDConfig, IDSystem


class BERT4RecConfig(IDConfig):
    """BERT4Rec; the loss is that of SASRec."""

    epochs: int = Field(200, ge=0)
    """Most epochs; a cloze epoch has fewer targets than one of next items."""
    batch_size: int = Field(256, ge=1)
    """Histories in a batch."""
    encoder: BERT4RecEncoderConfig = Field(default_factory=BERT4RecEncoderConfig)
    """The sequence encoder."""


class BERT4Rec(IDSystem[BERT4RecConfig]):
    """A bidirectional transformer over item ids, trained to fill in masked items.

    Source: Sun et al., CIKM 2019.
    Differs: the output is the item table without a bias, so that scores are dot products.
    """

    name: ClassVar[str] = "bert4rec"
    config_class: ClassVar[type[BERT4RecConfig]] = BERT4RecConfig
