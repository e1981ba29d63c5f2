"""`seqloom reproduce`: repeats a training and compares the results."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType


def reproduce(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `train` wrote.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the repetition; default: RUN-again."),
    ] = None,
    dataset: options.Dataset = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="Device; default: that of the run."),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(min=0.0, help="Largest difference of a metric, if the weights differ."),
    ] = 1e-3,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a run again from its manifest and compare the results.

    The exit code is 1 if the run is not reproduced.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.pipelines.experiments.reproduce import reproduce as run_stage

        result = run_stage(
            run,
            out=out,
            dataset=dataset,
            device=device,
            tolerance=tolerance,
            overwrite=overwrite,
            progress=current.progress,
        )
        current.finish(result, _render)
    if result.verdict == "differs":
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
        yield f"first epoch with a different loss: {apart}; largest difference of a weight: {gap}"
    yield f"repetition: {document['again']}"
