"""The record of a run: what it is, how well it ranks and what it costs.

Comparison, the choice of the reference, the cost-benefit sentence and the report all read this one model.
"""

from __future__ import annotations

from pydantic import Field

from seqloom.core.config import Config


class GroupResult(Config):
    """Metrics of one group of users."""

    users: int
    metrics: dict[str, float] | None
    """None where the group has no users."""


class OtherProtocol(Config):
    """Results of the same scores under the other decision about seen items."""

    masked: bool
    """Whether seen items are masked there."""
    metrics: dict[str, float]
    """Over all users."""
    groups: dict[str, GroupResult] = Field(default_factory=dict)


class RunRecord(Config):
    """One evaluated run. A cost that was not measured is None."""

    name: str
    """Unique among the runs that are compared."""
    system: str
    """The system's name, such as `llmesr`."""
    metrics: dict[str, float]
    """Over all users, as `rank_metrics` and `list_metrics` return them."""
    groups: dict[str, GroupResult] = Field(default_factory=dict)
    """By group of users, as `group_metrics` returns them."""
    other: OtherProtocol | None = None
    """The same scores with the other decision about seen items; None where they were not ranked so."""
    valid: dict[str, float] = Field(default_factory=dict)
    """Validation metrics under the protocol of this version; empty where they were not measured."""
    seed: int = 0
    series: str = ""
    """Equal for runs that differ only in their seed; empty where that is not known."""
    uses_language_model: bool = False
    unused_language_model: bool = False
    """Whether it holds a language model, or text vectors by one, that its scores do not depend on."""
    reads_text: bool = False
    """Whether its scores depend on the items' texts, by a language model or as mere words."""
    yardstick: bool = False
    """Whether the system only counts and trains nothing (`System.yardstick`)."""
    train_seconds: float | None = None
    """Training, an ensemble's members included."""
    embed_seconds: float = 0.0
    """Embedding the texts that the run was trained with, and tuning their encoder by the log."""
    latency_ms: float | None = None
    """Median of single requests."""
    evaluate_seconds: float | None = None
    """Scoring and ranking all users."""
    peak_rss_mb: float | None = None
    """Largest memory of the training process, MiB."""
    parameters: int | None = None
    """Number of parameters, trained or not."""
    trained_parameters: int | None = None
    device: str | None = None
    """Where it was trained."""

    @property
    def total_train_seconds(self) -> float | None:
        """Training, embedding of the texts and tuning of their encoder together."""
        return None if self.train_seconds is None else self.train_seconds + self.embed_seconds
