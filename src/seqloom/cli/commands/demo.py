"""`seqloom demo`: the whole path on MovieLens-100K."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = 90


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("demo")(demo)


def demo(
    out: Annotated[
        Path, typer.Option("--out", help="The folder for the data, the runs and the report.")
    ] = Path("work/demo"),
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Go the whole path on MovieLens-100K: prepare, embed, train, evaluate, compare, recommend."""
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.pipelines.demo import demo as run_stage

        current.finish(run_stage(out, progress=current.progress), _render)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import document_tables

    yield from document_tables(document)
