"""`seqloom import-llmesr`: imports the files of the LLM-ESR repository."""

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
    """Import the files published with LLM-ESR.

    Creates a data set with embeddings, in place of `prepare` and `embed`.

    Pickles are read without executing them; only arrays of numbers are accepted.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.pipelines.prepare.import_llmesr import import_llmesr as run_stage

        summary = run_stage(
            folder, out, items=items, name=name, overwrite=overwrite, progress=current.progress
        )
        follows = command("train", out, "--system", "llmesr", "--out", "runs/llmesr")
        current.finish(summary, _render, next_step=follows)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table

    yield fields_table(document)
