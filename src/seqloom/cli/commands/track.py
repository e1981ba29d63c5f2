"""`seqloom track`: records a complete run in a tracker."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType


def track(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `train` wrote.")],
    to: Annotated[
        Literal["mlflow", "wandb"],
        typer.Option("--to", help="The tracker; its own variables say where it is."),
    ],
    report: Annotated[
        Path | None, typer.Option("--report", help="A report of `compare`, stored with the run.")
    ] = None,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Record a run in MLflow or Weights & Biases.

    Parameters, metrics by epoch, evaluations, the report and the files of the run. A run that was trained
    with --track continues its record.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.pipelines.train.tracking import track as run_stage

        current.finish(run_stage(run, to, report=report, progress=current.progress), _render)


def _render(document: Any) -> Iterable[RenderableType]:
    yield (
        f"{document['run']} is recorded in {document['tracker']} as {document['key']}: "
        f"{len(document['metrics'])} results, {len(document['files'])} files"
    )
