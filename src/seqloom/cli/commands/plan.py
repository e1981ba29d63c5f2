"""`seqloom plan`: what a training will take, before it begins."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = 28


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("plan")(plan)


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
            "--memory", min=0, metavar="GIB", help="Memory to plan for; what is free by default."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Where the run is to be written, for the space there.")
    ] = Path("."),
    device: options.Device = "auto",
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Predict memory, time and disk space of a training; refuse what does not fit.

    Takes the same keys as `train` and keeps nothing: the machine is measured for about a second, and of a
    system that does not declare its costs a few steps are tried.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.core.config import apply_overrides, read_config_file

        values = apply_overrides(read_config_file(config) if config else {}, overrides or [])

        from seqloom.pipelines.estimate.plan import plan as run_stage

        found = run_stage(dataset, system, config=values, device=device, memory_gib=memory, out=out)
        current.finish(found, _render)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import document_tables

    return document_tables(document)
