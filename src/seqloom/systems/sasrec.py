"""SASRec over item ids."""

from __future__ import annotations

from typing import ClassVar

from seqloom.systems.config import SASRecConfig
from seqloom.systems.id_only import IDSystem


class SASRec(IDSystem[SASRecConfig]):
    """A causal transformer over item ids.

    Source: Kang & McAuley, ICDM 2018.
    Differs: exact softmax over the catalogue in place of one sampled negative, which ranks far better.
    """

    name: ClassVar[str] = "sasrec"
    config_class: ClassVar[type[SASRecConfig]] = SASRecConfig
