"""`seqloom reproduce`: does the same come out again?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = 55


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("reproduce")(reproduce)


def reproduce(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `train` wrote.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The folder of the repetition; RUN-again if not given."),
    ] = None,
    dataset: options.Dataset = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", metavar="NAME", help="Another device than the run was trained on."
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(min=0.0, help="Largest difference of a metric, where the bits differ."),
    ] = 1e-3,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a run again from its manifest and compare; exit code 1 where it is not reproduced."""
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.pipelines.experiments.reproduce import reproduce as run_stage

        found = run_stage(
            run,
            out=out,
            dataset=dataset,
            device=device,
            tolerance=tolerance,
            overwrite=overwrite,
            progress=current.progress,
        )
        current.finish(found, _render)
    if found.verdict == "differs":
        raise typer.Exit(1)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import rows_table

    yield document["sentence"]
    rows = [row for row in document["metrics"] if row["metric"] in ("ndcg@10", "hr@10", "mrr")]
    yield rows_table(rows)
    if not document["weights_equal"]:
        epoch, largest = document["first_epoch_apart"], document["largest_weight_difference"]
        apart = "none" if epoch is None else str(epoch)
        gap = "not comparable" if largest is None else f"{largest:.3g}"
        yield f"first epoch with another loss: {apart}; largest difference of a weight: {gap}"
    yield f"the repetition is {document['again']}"
