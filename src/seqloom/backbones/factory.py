"""Builds sequence encoders from their configurations."""

from __future__ import annotations

from seqloom.backbones.base import SequenceEncoder
from seqloom.backbones.bert4rec import BERT4RecEncoder
from seqloom.backbones.bsarec import BSARecEncoder
from seqloom.backbones.config import (
    BERT4RecEncoderConfig,
    BSARecEncoderConfig,
    EncoderConfig,
    GRU4RecEncoderConfig,
    SASRecEncoderConfig,
    TransformerConfig,
)
from seqloom.backbones.gru4rec import GRU4RecEncoder
from seqloom.backbones.sasrec import SASRecEncoder
from seqloom.core.errors import ConfigError


def build_backbone(config: EncoderConfig) -> SequenceEncoder:
    """Builds a sequence encoder with initial weights.

    Raises:
        ConfigError: num_heads does not divide hidden_size.
    """
    if isinstance(config, TransformerConfig) and config.hidden_size % config.num_heads:
        raise ConfigError(
            f"encoder.num_heads {config.num_heads} does not divide encoder.hidden_size "
            f"{config.hidden_size}; choose a divisor"
        )
    if isinstance(config, GRU4RecEncoderConfig):
        return GRU4RecEncoder(config)
    if isinstance(config, BERT4RecEncoderConfig):
        return BERT4RecEncoder(config)
    if isinstance(config, BSARecEncoderConfig):
        return BSARecEncoder(config)
    assert isinstance(config, SASRecEncoderConfig)
    return SASRecEncoder(config)
