"""`seqloom tune`: searches for a good configuration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.next_step import command
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType


def tune(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="The folder that `prepare` wrote.")
    ],
    plan: Annotated[
        Path, typer.Option("--plan", help="A YAML file: system, config, space, trials, metric.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the study and its runs.")],
    trials: Annotated[
        int | None,
        typer.Option(help="Total number of trials, including earlier ones; default: the plan's."),
    ] = None,
    device: options.Device = "auto",
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Search for a good configuration with Optuna.

    Reads only the validation part.

    The same command resumes an interrupted study. Poor trials are stopped early.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.core.config import read_config_file
        from seqloom.pipelines.experiments.search_space import TunePlan

        values = read_config_file(plan)
        if trials is not None:
            values["trials"] = trials
        read = TunePlan.build(values)

        from seqloom.pipelines.experiments.tune import tune as run_stage

        summary = run_stage(dataset, read, out=out, device=device, progress=current.progress)
        follows = ""
        if summary.config is not None:
            options = ("--system", read.system, "--config", summary.config)
            follows = command("train", dataset, *options, "--out", f"runs/{read.system}")
        current.finish(summary, _render, next_step=follows)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table

    yield fields_table(document)
