"""Runs of a sweep that read others: `@VARIANT` in a configuration is that variant's run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqloom.core.errors import ConfigError
from seqloom.pipelines.experiments.sweep_grid import Cell

MARK = "@"


def refer(planned: Sequence[Cell], runs: Path) -> list[Cell]:
    """Put folders below `runs` in the place of every `@VARIANT`.

    Meant is the run of the same seed and the same grid point; of a variant that has one seed, or to
    which the grid does not apply, the one that there is. It must come earlier in the plan.

    Raises:
        ConfigError: no earlier run is meant; the message names the runs that there are.
    """
    return [
        cell.model_copy(update={"config": _referred(cell.config, cell, planned[:number], runs)})
        for number, cell in enumerate(planned)
    ]


def _referred(value: Any, cell: Cell, earlier: Sequence[Cell], runs: Path) -> Any:
    if isinstance(value, dict):
        return {key: _referred(one, cell, earlier, runs) for key, one in value.items()}
    if isinstance(value, list):
        return [_referred(one, cell, earlier, runs) for one in value]
    if isinstance(value, str) and value.startswith(MARK):
        return str(runs / _meant(value.removeprefix(MARK), cell, earlier).name)
    return value


def _meant(variant: str, cell: Cell, earlier: Sequence[Cell]) -> Cell:
    found = [one for one in earlier if one.variant == variant]
    if not found:
        names = ", ".join(dict.fromkeys(one.variant for one in earlier)) or "none"
        raise ConfigError(
            f"run {cell.name}: {MARK}{variant} must be a variant that comes earlier in the plan; "
            f"earlier ones: {names}"
        )
    for same in ("seed", "point"):
        if len({str(getattr(one, same)) for one in found}) > 1:
            found = [one for one in found if getattr(one, same) == getattr(cell, same)]
    if len(found) != 1:
        raise ConfigError(
            f"run {cell.name}: {MARK}{variant} has no run of the same seed and grid point"
        )
    return found[0]
