"""`seqloom show`: describes a run or a data set."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType


def show(
    path: Annotated[
        Path, typer.Argument(metavar="RUN|DATASET", help="A run, or a prepared data set.")
    ],
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show one run or data set: sizes, configuration, metrics.

    Reads the manifest alone; `audit` checks what it says.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.pipelines.overview import describe

        current.finish(describe(path), _render)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table, rows_table

    yield f"{document['kind']} {document['path']}"
    yield fields_table(document["values"])
    for warning in document["warnings"]:
        yield f"warning: {warning}"
    if document["rows"]:
        yield rows_table(document["rows"])
    yield "configuration" if document["kind"] == "run" else "options"
    yield fields_table(document["config"])
