"""Builds the costs of a system."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seqloom.pipelines.estimate.costs.base import TrainingCosts
from seqloom.pipelines.estimate.costs.e4srec import E4SRecCosts
from seqloom.pipelines.estimate.costs.llmesr import LLMESRCosts
from seqloom.pipelines.estimate.costs.sequence import SequenceCosts
from seqloom.systems.base import System, SystemConfig
from seqloom.systems.e4srec.config import E4SRecConfig
from seqloom.systems.llmesr.config import LLMESRConfig

_COSTS: dict[str, Callable[[Any], TrainingCosts]] = {
    "bert4rec": SequenceCosts,
    "bsarec": SequenceCosts,
    "e4srec": E4SRecCosts,
    "gru4rec": SequenceCosts,
    "llmesr": LLMESRCosts,
    "llminit": SequenceCosts,
    "sasrec": SequenceCosts,
}
"""Cost classes by the name of the system. Other systems are tried for a few steps."""


def has_costs(name: str, config: SystemConfig) -> bool:
    """Returns whether the costs of the system `name` can be counted: those of one ranking phase can."""
    if isinstance(config, LLMESRConfig):
        return config.views == "collaborative" or config.semantic.encoder == "shared"
    if isinstance(config, E4SRecConfig):
        return config.candidates == "ids"
    return name in _COSTS


def costs_of(system: System[Any]) -> TrainingCosts:
    """Returns the costs of a system.

    Raises:
        KeyError: the system has none (`has_costs`).
    """
    return _COSTS[system.name](system)
