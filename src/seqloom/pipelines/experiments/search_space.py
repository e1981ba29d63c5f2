"""The plan of a search: a system, and the values of the searched keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict

from pydantic import Field, model_validator

from seqloom.core.config import Config, nested
from seqloom.core.errors import ConfigError
from seqloom.systems.registry import config_class

if TYPE_CHECKING:
    from optuna import Trial


class Space(Config):
    """The values of one key: a range (`low` to `high`) or a choice (`values`)."""

    low: int | float | None = None
    """The lowest value; an integer if both ends are."""
    high: int | float | None = None
    """The highest value."""
    log: bool = False
    """Draw on a logarithmic scale."""
    step: int | float | None = Field(None, gt=0)
    """Distance between neighbouring values."""
    values: list[bool | int | float | str | None] | None = Field(None, min_length=1)
    """The values of a choice."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.values is not None:
            if self.low is not None or self.high is not None or self.log or self.step is not None:
                raise ValueError("give values, or low and high, not both")
            return self
        if self.low is None or self.high is None or self.low > self.high:
            raise ValueError("give low and high (low not above high), or values")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low above 0 and no step")
        return self

    @property
    def ends(self) -> list[Any]:
        """The values of a choice, or both ends of a range."""
        return list(self.values) if self.values is not None else [self.low, self.high]

    def suggest(self, trial: Trial, key: str) -> Any:
        """Asks a trial for a value of `key`."""
        if self.values is not None:
            return trial.suggest_categorical(key, self.values)
        low, high = self.ends
        if isinstance(low, int) and isinstance(high, int) and not isinstance(self.step, float):
            return trial.suggest_int(key, low, high, log=self.log, step=int(self.step or 1))
        return trial.suggest_float(key, float(low), float(high), log=self.log, step=self.step)


class TunePlan(Config):
    """The plan of a search on one data set."""

    system: str
    """The system."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Configuration keys of all trials, nested or dotted."""
    space: dict[str, Space] = Field(min_length=1)
    """Dotted configuration key to the values to try."""
    trials: int = Field(30, ge=1)
    """Total number of trials; raise it to continue a finished search."""
    metric: Literal["ndcg@10", "hr@10"] = "ndcg@10"
    """Validation metric to maximise."""
    seed: int = 0
    """Seed of the search; the seed of the runs is a key of `config`."""
    prune: bool = True
    """Whether to stop a trial whose metric is below the median of earlier trials at the same validation."""
    startup_trials: int = Field(8, ge=1)
    """Random trials before the search learns, and before any trial is stopped early."""
    warmup_validations: int = Field(5, ge=0)
    """Validations of a trial before it may be stopped early."""


class TuneKeywords(TypedDict, total=False):
    """The fields of `TunePlan` as keywords."""

    system: str
    config: dict[str, Any]
    space: Mapping[str, Any]
    trials: int
    metric: Literal["ndcg@10", "hr@10"]
    seed: int
    prune: bool
    startup_trials: int
    warmup_validations: int


def check_space(plan: TunePlan) -> None:
    """Builds the configurations at both ends of each searched key, with the other keys at their first value.

    Raises:
        ConfigError: the system, a key or a value is not allowed; the message names the value.
    """
    first = {key: space.ends[0] for key, space in plan.space.items()}
    for key, space in plan.space.items():
        for value in space.ends:
            try:
                config_class(plan.system).build(nested(plan.config, first, {key: value}))
            except ConfigError as error:
                raise ConfigError(f"the search would try {key}={value!r}: {error}") from None
