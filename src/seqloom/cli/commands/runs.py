"""`seqloom runs`: lists the runs of a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType


def runs(
    folder: Annotated[
        Path,
        typer.Argument(metavar="[FOLDER]", help="Where to look, four folders deep."),
    ] = Path("."),
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List runs with their metrics.

    Test metrics are those of the full ranking with seen items masked.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.pipelines.overview import list_runs

        found = list_runs(folder)
        for each in found.runs:
            if each.problem:
                current.progress.warn(f"{folder / each.run} is damaged: {each.problem}")
        rows = found.as_rows()
        current.finish(found, lambda document: _render(document, rows))


def _render(document: Any, rows: list[dict[str, Any]]) -> Iterable[RenderableType]:
    from seqloom.cli.show import rows_table

    if not rows:
        yield f"no runs in {document['folder']}; `seqloom train` makes one"
        return
    yield rows_table(rows)
