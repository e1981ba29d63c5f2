"""Configuration of an ensemble."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seqloom.systems.base import SystemConfig


class EnsembleConfig(SystemConfig):
    """What is combined, and how the weights are found."""

    runs: list[str] = Field(min_length=2)
    """Folders of the member runs: complete, and trained on the same data set. Read at training alone; the
    ensemble holds a copy of each."""
    scale: Literal["z_score", "logits"] = "z_score"
    """How the members' scores are made comparable: divided by their spread after each history, or times a
    constant (the log of a softmax with its own temperature, but for a constant of the history)."""
    objective: Literal["ndcg", "likelihood"] = "ndcg"
    """What the weights maximise over the validation targets: NDCG@10, by a search that starts from
    the best likelihood, or the log-likelihood under the softmax of the sum. Source of both defaults:
    docs/guides/ensembles.md."""
    l2: float = Field(1e-3, ge=0)
    """Pull of the weights towards their mean, per validation user: 0 trusts the validation part, a
    large value sums all members alike."""
    candidates: int = Field(50, ge=10)
    """Best items of each member that the weights are fitted on, beside the target."""
    others: int = Field(200, ge=1)
    """Items drawn at random that stand for the rest of the catalogue in the fit."""
