"""`seqloom export`: exports a run for other runtimes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `train` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write, ending in .onnx.")],
    file_format: Annotated[
        Literal["onnx"], typer.Option("--format", help="The file format.")
    ] = "onnx",
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Export a sequence model as ONNX.

    Checks the scores against torch, and writes the item ids beside the model.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.pipelines.recommend.export import export as run_stage

        current.finish(run_stage(run, out, overwrite=overwrite, progress=current.progress), _render)


def _render(document: Any) -> Iterable[RenderableType]:
    yield f"{document['file']}: scores for {document['num_items']} items, ids in {document['item_ids']}"
    yield f"largest difference from torch: {document['difference']:.2g}"
