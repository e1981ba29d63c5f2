"""`seqloom import-llmesr`: the files of the LLM-ESR repository to a prepared data set."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = 22


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("import-llmesr")(import_llmesr)


def import_llmesr(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="A folder `handled`, with inter.txt and itm_emb_np.pkl."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder of the data set to write.")],
    items: Annotated[
        Path | None, typer.Option("--items", help="A table with an item id and text columns.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the embeddings.")] = "handled",
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a data set and its embeddings from the files that LLM-ESR's authors publish.

    This stands in for `prepare` and `embed`. Pickles are read without being run; a pickle of anything
    but an array of numbers is refused.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.pipelines.prepare.import_llmesr import import_llmesr as run_stage

        summary = run_stage(
            folder, out, items=items, name=name, overwrite=overwrite, progress=current.progress
        )
        current.finish(summary, _render)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table

    yield fields_table(document)
