"""`seqloom add-items`: new items into a trained run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = 65


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("add-items")(add_items)


def add_items(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `train` wrote.")],
    items: Annotated[
        Path,
        typer.Argument(metavar="ITEMS", help="A table of the new items: an id and text columns."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the run with the new items here; else it is replaced."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option("--text", help="Name of the data set's text embedding; else the default one."),
    ] = None,
    dataset: options.Dataset = None,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Let a run recommend items that have no events yet, by their text.

    The data set needs a text embedding (`seqloom embed`). No training; old items keep their scores.
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
        current.finish(summary, _render)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table

    yield fields_table(document)
