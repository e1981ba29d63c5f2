"""`seqloom sweep`: trains the runs of a plan and tabulates means and deviations."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType


def sweep(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="The folder that `prepare` wrote.")
    ],
    plan: Annotated[
        Path, typer.Option("--plan", help="A YAML file: system, config, variants, grid, seeds.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the runs, the table and the figures.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a key of the plan: seeds=[42], config.encoder.hidden_size=64; repeatable.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="VARIANT", help="Run only this variant of the plan; repeatable."
        ),
    ] = None,
    device: options.Device = "auto",
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train and evaluate every run of a plan.

    Writes one table and the figures.

    The same command resumes an interrupted sweep, and trains only new runs if
    the plan has changed.
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
    for run in document["failed"]:
        yield f"failed: {run['run']}: {run['error']}"
    yield f"{document['runs']} runs; groups, figures and every run's numbers: {document['report']}"


def _row(row: dict[str, Any]) -> dict[str, Any]:
    columns = ("protocol", "metric", "mean", "std", "best")
    seeds = " ".join(map(str, row["seeds"]))
    return {
        "variant": row["variant"],
        **row["point"],
        **{name: row[name] for name in columns},
        "seeds": seeds,
    }
