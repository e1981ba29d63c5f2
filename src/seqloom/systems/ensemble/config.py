"""Configuration of an ensemble."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seqloom.systems.base_config import SystemConfig


class EnsembleConfig(SystemConfig):
    """Members of the ensemble, and how their weights are fitted."""

    runs: list[str] = Field(min_length=2)
    """Folders of the member runs: complete, and trained on the same data set. They are read in training
    only; the ensemble holds a copy of each."""
    scale: Literal["z_score", "logits"] = "z_score"
    """How to make the members' scores comparable. z_score: divide by their standard deviation after each
    history; logits: multiply by a constant (a log-softmax with its own temperature, up to a constant of the
    history)."""
    objective: Literal["ndcg", "likelihood"] = "ndcg"
    """Objective of the weights on the validation targets. ndcg: NDCG@10, by a search that starts from the
    best likelihood; likelihood: the log-likelihood of the softmax of the sum. Source of both defaults:
    docs/guides/ensembles.md."""
    repeat: Literal["learned", "none"] = "none"
    """Score of items that the history holds. learned: weights are fitted on new items, and a constant is
    added to items of the history, so that repeats are expected as often as in the training part; where
    it has none, no list holds an item again. Where seen items are ranked, validation chooses between this,
    the share of repeats in validation, and weights without a constant. none: no constant."""
    l2: float = Field(1e-3, ge=0)
    """Penalty on the distance of the weights from their mean, per validation user: 0 trusts the validation
    part, a large value sums all members equally."""
    candidates: int = Field(50, ge=10)
    """Number of best items of each member that the weights are fitted on, besides the target."""
    others: int = Field(200, ge=1)
    """Number of random items that represent the rest of the catalogue in the fit."""
