"""`seqloom add-items`: new items into a trained run."""

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


def add_items(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `train` wrote.")],
    items: Annotated[
        Path,
        typer.Argument(metavar="ITEMS", help="A table of the new items: an id and text columns."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where to write the extended run; default: replaces RUN."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text", help="Name of the text embeddings; default: the data set's default ones."
        ),
    ] = None,
    dataset: options.Dataset = None,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Add items without events to a run, by their text.

    The data set needs text embeddings (`seqloom embed`). Nothing is trained; scores of existing
    items do not change.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.pipelines.recommend.add_items import add_items as run_stage

        summary = run_stage(
            run,
            items,
            out=out,
            text=text,
            dataset=dataset,
            overwrite=overwrite,
            progress=current.progress,
        )
        current.finish(summary, _render, next_step=command("serve", out or run))


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table

    yield fields_table(document)
