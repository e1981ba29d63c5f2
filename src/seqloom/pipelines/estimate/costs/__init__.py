"""Costs of each system's training, as counts of each kind of work."""

from __future__ import annotations

from seqloom.pipelines.estimate.costs.base import TrainingCosts
from seqloom.pipelines.estimate.costs.factory import costs_of, has_costs

__all__ = ["TrainingCosts", "costs_of", "has_costs"]
