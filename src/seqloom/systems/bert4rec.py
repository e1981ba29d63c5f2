"""BERT4Rec over item ids."""

from __future__ import annotations

from typing import ClassVar

from seqloom.systems.config import BERT4RecConfig
from seqloom.systems.id_only import IDSystem


class BERT4Rec(IDSystem[BERT4RecConfig]):
    """A bidirectional transformer over item ids, trained to fill in masked items.

    Source: Sun et al., CIKM 2019.
    Differs: the output is the item table without a bias, so that scores are dot products.
    """

    name: ClassVar[str] = "bert4rec"
    config_class: ClassVar[type[BERT4RecConfig]] = BERT4RecConfig
