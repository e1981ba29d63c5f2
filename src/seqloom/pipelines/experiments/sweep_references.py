"""Resolves `@VARIANT` in configurations of a sweep: the run folder of that variant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqloom.core.errors import ConfigError
from seqloom.pipelines.experiments.sweep_grid import SweepCell

MARK = "@"


def resolve_references(planned: Sequence[SweepCell], runs: Path) -> list[SweepCell]:
    """Replaces each `@VARIANT` with a folder below `runs`.

    It stands for the run of the same seed and grid point; a variant with one seed, or without the grid,
    has only one. The run must come earlier in the plan.

    Raises:
        ConfigError: there is no such earlier run; the message names the earlier variants.
    """
    return [
        cell.model_copy(update={"config": _resolve(cell.config, cell, planned[:number], runs)})
        for number, cell in enumerate(planned)
    ]


def _resolve(value: Any, cell: SweepCell, earlier: Sequence[SweepCell], runs: Path) -> Any:
    if isinstance(value, dict):
        return {key: _resolve(one, cell, earlier, runs) for key, one in value.items()}
    if isinstance(value, list):
        return [_resolve(one, cell, earlier, runs) for one in value]
    if isinstance(value, str) and value.startswith(MARK):
        return str(runs / _find_run(value.removeprefix(MARK), cell, earlier).name)
    return value


def _find_run(variant: str, cell: SweepCell, earlier: Sequence[SweepCell]) -> SweepCell:
    matching = [one for one in earlier if one.variant == variant]
    if not matching:
        names = ", ".join(dict.fromkeys(one.variant for one in earlier)) or "none"
        raise ConfigError(
            f"run {cell.name}: {MARK}{variant} must be a variant that comes earlier in the plan; "
            f"earlier ones: {names}"
        )
    for same in ("seed", "point"):
        if len({str(getattr(one, same)) for one in matching}) > 1:
            matching = [one for one in matching if getattr(one, same) == getattr(cell, same)]
    if len(matching) != 1:
        raise ConfigError(
            f"run {cell.name}: {MARK}{variant} has no run of the same seed and grid point"
        )
    return matching[0]
