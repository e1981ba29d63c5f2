"""`seqloom plan`: estimates the cost of a training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType


def plan(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="The folder that `prepare` wrote.")
    ],
    system: options.System,
    config: options.ConfigFile = None,
    overrides: options.Overrides = None,
    memory: Annotated[
        float | None,
        typer.Option(
            "--memory", min=0, metavar="GIB", help="Available memory; default: what is free."
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", help="Where the run would be written; checks the disk space there."),
    ] = Path("."),
    device: options.Device = "auto",
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Estimate memory, time and disk space of a training.

    Rejects a training that does not fit.

    Takes the same keys as `train` and writes nothing. Measures the machine
    for about a second; for systems without a cost model, runs a few steps.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.core.config import apply_overrides, read_config_file

        values = apply_overrides(read_config_file(config) if config else {}, overrides or [])

        from seqloom.pipelines.estimate.plan import plan as run_stage

        estimate = run_stage(
            dataset, system, config=values, device=device, memory_gib=memory, out=out
        )
        current.finish(estimate, _render)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import document_tables

    return document_tables(document)
