"""`seqloom demo`: the whole workflow on MovieLens-100K."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType


def demo(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the data, the runs and the report.")
    ] = Path("work/demo"),
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run everything on MovieLens-100K, from prepare to recommend.

    Downloads the data, trains several systems, and writes a report.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.pipelines.demo import demo as run_stage

        current.finish(run_stage(out, progress=current.progress), _render)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import document_tables

    yield from document_tables(document)
