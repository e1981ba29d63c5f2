"""Systems that are initialised on a small data set and not trained."""

from __future__ import annotations

from typing import Any

import torch

from seqloom.core.config import apply_overrides
from seqloom.data.store import Dataset
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.registry import system_class
from seqloom.text.store import load_embeddings
from support.datasets import SMALL


def untrained_system(dataset: Dataset, name: str, *overrides: str) -> Any:
    """Builds and initialises the system `name` with a small configuration."""
    cls = system_class(name)
    config = cls.config_class.build(apply_overrides(SMALL, overrides))
    text_size = load_embeddings(dataset).width if config.embeddings else 0
    torch.manual_seed(0)
    system = cls(config, Sizes(num_items=dataset.num_items, text_size=text_size))
    system.initialise(TrainingData(dataset))
    return system


def phase_of(system: Any, dataset: Dataset, name: str) -> Any:
    """Returns the phase `name` of a system."""
    return next(p for p in system.phases(TrainingData(dataset)) if p.name == name)
