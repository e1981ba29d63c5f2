"""`seqloom tune`: search a space of configurations on the validation part."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = 54


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("tune")(tune)


def tune(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="The folder that `prepare` wrote.")
    ],
    plan: Annotated[
        Path, typer.Option("--plan", help="A YAML file: system, config, space, trials, metric.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder of the study and its runs.")],
    trials: Annotated[
        int | None,
        typer.Option(help="Trials in all, earlier ones included; the plan's by default."),
    ] = None,
    device: options.Device = "auto",
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Search for a good configuration with Optuna; only the validation part is read.

    The same command goes on where it was stopped. Trials that fall behind are stopped early.
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
        current.finish(summary, _render)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table

    yield fields_table(document)
