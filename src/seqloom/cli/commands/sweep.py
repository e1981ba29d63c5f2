"""`seqloom sweep`: many runs of one plan, one table of means and spreads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = 52


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("sweep")(sweep)


def sweep(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="The folder that `prepare` wrote.")
    ],
    plan: Annotated[
        Path, typer.Option("--plan", help="A YAML file: system, config, variants, grid, seeds.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder of the runs, table and figures.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A key of the plan, over the file's: seeds=[42], config.encoder.hidden_size=64.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="VARIANT", help="Of the plan's variants these alone."),
    ] = None,
    device: options.Device = "auto",
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train and evaluate every run of a plan, then write one table and the figures.

    The same command goes on where it was stopped, and trains only what the plan has anew.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.core.config import apply_overrides, read_config_file
        from seqloom.pipelines.experiments.sweep_grid import SweepPlan, only_variants

        values = SweepPlan.build(apply_overrides(read_config_file(plan), overrides or []))
        if only:
            values = only_variants(values, only)

        from seqloom.pipelines.experiments.sweep import sweep as run_stage

        summary = run_stage(dataset, values, out=out, device=device, progress=current.progress)
        current.finish(summary, _render)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import rows_table

    yield rows_table([_row(row) for row in document["table"] if row["group"] == "all"])
    for one in document["failed"]:
        yield f"failed: {one['run']}: {one['error']}"
    yield f"{document['runs']} runs; groups, figures and every run's numbers: {document['report']}"


def _row(row: dict[str, Any]) -> dict[str, Any]:
    told = ("protocol", "metric", "mean", "std", "best")
    seeds = " ".join(map(str, row["seeds"]))
    return {
        "variant": row["variant"],
        **row["point"],
        **{name: row[name] for name in told},
        "seeds": seeds,
    }
