"""`seqloom ids`: the textual IDs of a data set's items."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = 25


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("ids")(ids)


def ids(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="The folder that `prepare` wrote.")
    ],
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Take the generator of this run of idgenrec."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="A YAML file with keys of idgenrec.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One key of idgenrec; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The Parquet file to write; default: ids.parquet in DATASET."),
    ] = None,
    show: Annotated[int, typer.Option("--show", min=0, help="How many items to show.")] = 20,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Name every item with a few words, as IDGenRec does, and write the names to a file.

    By default a pretrained SmolLM2 makes them; `--set generator.name=...` takes another model.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.core.config import apply_overrides, read_config_file

        values = apply_overrides(read_config_file(config) if config else {}, overrides or [])

        from seqloom.pipelines.train.textual_ids import textual_ids

        summary = textual_ids(
            dataset,
            run=run,
            config=values,
            out=out,
            show=show,
            overwrite=overwrite,
            device=device,
            progress=current.progress,
        )
        current.finish(summary, _render)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table, rows_table

    rows = document.pop("rows")
    if rows:
        yield rows_table(rows)
    yield fields_table(document)
