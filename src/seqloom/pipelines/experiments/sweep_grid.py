"""The plan of a sweep: variants, times a grid over configuration keys, times seeds."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self, TypedDict

from pydantic import Field, model_validator

from seqloom.core.config import Config, nested
from seqloom.core.errors import ConfigError
from seqloom.data.store import Part
from seqloom.systems.registry import config_class

_LONGEST_NAME = 120


class Variant(Config):
    """A named variant: a system with some keys set."""

    system: str | None = None
    """The system; defaults to that of the sweep."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Configuration keys, nested or dotted, merged over those of the sweep. `@VARIANT` as a value, or in a
    list, stands for the run folder of an earlier variant."""
    seeds: list[int] | None = Field(None, min_length=1)
    """Seeds of this variant; default to those of the sweep."""
    grid: bool = True
    """Whether the grid applies; otherwise the variant has one run for each seed."""


class SweepPlan(Config):
    """The plan of a sweep on one data set."""

    system: str | None = None
    """The system of variants that name none."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Configuration keys of all runs, nested or dotted."""
    variants: dict[str, Variant] = Field(default_factory=dict)
    """Named variants; by default one, named after the system."""
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    """Dotted configuration key to its values; all combinations are trained."""
    seeds: list[int] = Field([42], min_length=1)
    """Seeds of each combination."""
    protocols: list[Literal["full", "sampled"]] = Field(["full"], min_length=1)
    """How the runs are evaluated: full ranking, 100 sampled negatives, or both."""
    on: Part = "test"
    """The held-out part to evaluate; `valid` to choose between variants."""
    metrics: list[str] = Field(["hr@10", "ndcg@10"], min_length=1)
    """Metrics of the table; the figures show the first one."""
    tail_item_below: int | None = Field(None, ge=0)
    """Training events that make an item head; the data set's 80/20 threshold if not given."""
    tail_user_below: int | None = Field(None, ge=0)
    """Training events that make a user head; the data set's 80/20 threshold if not given."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        without = [name for name, variant in self.variants.items() if variant.system is None]
        if self.system is None and (without or not self.variants):
            raise ValueError("name a system, for the sweep or for every variant")
        for key, values in self.grid.items():
            if not values:
                raise ValueError(f"grid key {key!r} has no values")
        for keys in (self.config, self.grid, *(one.config for one in self.variants.values())):
            if any(key.partition(".")[0] == "seed" for key in keys):
                raise ValueError("seed is no key of a sweep; list the seeds under `seeds`")
        return self


class SweepKeywords(TypedDict, total=False):
    """The fields of `SweepPlan` as keywords."""

    system: str | None
    config: dict[str, Any]
    variants: Mapping[str, Any]
    grid: dict[str, list[Any]]
    seeds: list[int]
    protocols: list[Literal["full", "sampled"]]
    on: Part
    metrics: list[str]
    tail_item_below: int | None
    tail_user_below: int | None


def only_variants(plan: SweepPlan, names: Sequence[str]) -> SweepPlan:
    """Returns the plan with only these of its variants.

    Raises:
        ConfigError: a name is none of its variants'.
    """
    for name in names:
        if name not in plan.variants:
            known = ", ".join(map(repr, plan.variants)) or "none"
            raise ConfigError(f"the plan has no variant {name!r}; its variants: {known}")
    kept = {name: one for name, one in plan.variants.items() if name in names}
    return plan.model_copy(update={"variants": kept})


class SweepCell(Config):
    """One run of a sweep."""

    name: str
    """Its folder's name."""
    variant: str
    system: str
    seed: int
    point: dict[str, Any]
    """The grid's keys and this run's values; empty where the grid does not apply."""
    config: dict[str, Any]
    """The nested configuration."""


def cells(plan: SweepPlan) -> list[SweepCell]:
    """Returns all runs of the plan, after checking their configurations.

    Raises:
        ConfigError: a system, a key or a value is not allowed; the message names the run.
    """
    planned = list(_cells(plan))
    for cell in planned:
        try:
            config_class(cell.system).build(cell.config)
        except ConfigError as error:
            raise ConfigError(f"run {cell.name}: {error}") from None
    names = [cell.name for cell in planned]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ConfigError(f"two runs have the same name ({', '.join(twice)}); rename a variant")
    return planned


def _cells(plan: SweepPlan) -> Iterator[SweepCell]:
    variants = plan.variants or {str(plan.system): Variant()}
    for name, variant in variants.items():
        system = variant.system or plan.system
        assert system is not None
        grid = plan.grid if variant.grid else {}
        for values in itertools.product(*grid.values()):
            point = dict(zip(grid, values, strict=True))
            for seed in variant.seeds or plan.seeds:
                config = nested(plan.config, variant.config, point, {"seed": seed})
                yield SweepCell(
                    name=folder_name(name, point, seed),
                    variant=name,
                    system=system,
                    seed=seed,
                    point=point,
                    config=config,
                )


def folder_name(variant: str, point: Mapping[str, Any], seed: int) -> str:
    """Returns `variant,key=value,seed=42` in characters of every file system, shortened if too long."""
    parts = [variant, *(f"{key}={value}" for key, value in point.items()), f"seed={seed}"]
    name = re.sub(r"[^\w.=,+-]+", "-", ",".join(parts)).strip("-.")
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
