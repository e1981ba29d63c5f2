"""SASRec over item ids."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from seqloom.backbones.config import SASRecEncoderConfig
from seqloom.systems.id_only import IDConfig, IDSystem


class SASRecConfig(IDConfig):
    """Configuration of SASRec."""

    encoder: SASRecEncoderConfig = Field(default_factory=SASRecEncoderConfig)
    """Sequence encoder."""


class SASRec(IDSystem[SASRecConfig]):
    """A causal transformer over item ids.

    Source: Kang & McAuley, ICDM 2018.
    Differs: exact softmax over the catalogue in place of one sampled negative, which ranks far better.
    """

    name: ClassVar[str] = "sasrec"
    config_class: ClassVar[type[SASRecConfig]] = SASRecConfig
