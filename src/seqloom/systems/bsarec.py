"""BSARec over item ids."""

from __future__ import annotations

from typing import ClassVar

from seqloom.systems.config import BSARecConfig
from seqloom.systems.id_only import IDSystem


class BSARec(IDSystem[BSARecConfig]):
    """A causal transformer with a filter of frequencies, over item ids.

    Source: Shin et al., AAAI 2024.
    Differs: see `backbones.bsarec.BSARecEncoder`.
    """

    name: ClassVar[str] = "bsarec"
    config_class: ClassVar[type[BSARecConfig]] = BSARecConfig
